import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { Certificate } from '#libs/model/certificate';
import { isInHand } from '#libs/model/order';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

let server: Redis;
let web: Deployments;
let certificate: Certificate;
/** Whether the host answers. */
let isThere: boolean;

/** The stage, on a host that is gone from its first commit on: after it, or before. */
function startOnHostLost(when: 'before the commit' | 'after the commit'): void {
  const reach = () => {
    if (!isThere) throw new CertlineError('target_unreachable', 'the connection was lost');
  };
  web.start((own) =>
    wrapped(own, {
      async read(signal) {
        reach();
        return own.read(signal);
      },
      async importPfx(pfx, signal) {
        isThere &&= when === 'after the commit';
        reach();
        await own.importPfx(pfx, signal);
      },
      async apply(changes, signal) {
        await own.apply(changes, signal);
        isThere = false;
        reach();
      },
    }),
  );
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  web = await openDeployments(server);
  certificate = await web.certificate(['www.example.com']);
  await web.addSite(1, ['*:80:www.example.com']);
  isThere = true;
});
afterEach(() => web.close());

/** What is called off is on no host: so nobody may call off what may be on one. */
describe('an order whose host was lost', () => {
  it('in the middle of its commit is in hand until an attempt has found out what the host has', async () => {
    startOnHostLost('after the commit');
    const { id, ...first } = await web.deploy(certificate, { mode: 'site', site: 1 });
    expect(first).toMatchObject({ status: 'issued', error: { code: 'target_unreachable' } });
    expect(await web.bindings()).toEqual([`1 *:443:www.example.com 1 ${certificate.thumbprint}`]);
    expect(isInHand(await web.pipeline.read(id))).toBe(true);
    // The host is still away: nobody knows more than before.
    expect(isInHand(await web.hurry(id))).toBe(true);
    isThere = true;
    expect(await web.hurry(id)).toMatchObject({ status: 'deployed' });
  });

  it('stays in hand when the host is lost again, whatever an attempt for another order has made of its commit', async () => {
    startOnHostLost('after the commit');
    const { id, startedAt } = await web.deploy(certificate, { mode: 'site', site: 1 });
    // Another order's attempt found the commit served, and left it.
    await web.undo.remove('tgt_1', (await web.undo.get('tgt_1'))?.id ?? '');
    const later = await web.hurry(id);
    expect(later).toMatchObject({ status: 'issued', error: { code: 'target_unreachable' }, startedAt });
    isThere = true;
    expect(await web.hurry(id)).toMatchObject({ status: 'deployed' });
  });

  it('before its commit is not', async () => {
    startOnHostLost('before the commit');
    const order = await web.deploy(certificate, { mode: 'site', site: 1 });
    expect(order).toMatchObject({ status: 'issued', error: { code: 'target_unreachable' } });
    expect(isInHand(order)).toBe(false);
    expect(await web.bindings()).toEqual([]);
  });
});
