import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { IisHost } from '#libs/iis/iis-host';
import type { Certificate } from '#libs/model/certificate';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** What becomes of an order and of the host when a deployment does not go as planned. */
let server: Redis;
let web: Deployments;
let old: Certificate;
let fresh: Certificate;

const names = ['www.example.com', 'api.example.com'];
const toSite = { mode: 'site', site: 1 } as const;
const waits = (code: string, deployment = 1) => ({
  ...{ status: 'issued', attempts: { deployment }, nextAttemptAt: expect.any(Number) },
  error: { code, stage: 'deployment' },
});
const failed = (code: string) => ({
  ...{ status: 'failed', stage: 'deployment', attempts: { deployment: 1 }, certificate: fresh.id },
  error: { code, stage: 'deployment' },
});
const served = async () => (await web.bindings()).map((line) => line.split(' ').at(-1));

/** The host, with something that happens once between a plan and its commit. */
const interrupted = (happens: () => Promise<void>) => {
  let left = 1;
  return (host: IisHost): IisHost =>
    wrapped(host, {
      async apply(changes, signal) {
        if (left-- > 0) await happens();
        await host.apply(changes, signal);
      },
    });
};

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  web = await openDeployments(server);
  [old, fresh] = [await web.certificate(['*.example.com']), await web.certificate(names)];
});
afterEach(() => web.close());

describe('a host that goes on serving another certificate', () => {
  it('gets its bindings back as they were, and the new ones when it has come to its senses', async () => {
    await web.addSite(1, ['*:80:api.example.com', '*:443:www.example.com', '*:443:other.example.com']);
    await web.bind(old, 1, '*:443:www.example.com');
    await web.bind(old, 1, '*:443:other.example.com');
    const [state, config] = [await web.state(), await web.config()];
    await web.faults({ serveOld: true });
    web.start();

    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(waits('handshake_mismatch'));
    expect(order.error?.evidence).toEqual({
      ...{ binding: 'www.example.com:443', seen: old.thumbprint, error: null },
      putBack: expect.any(Number),
    });
    expect(order.error?.detail).toMatch(/; bindings put back as they were: \d$/);
    expect(await web.state()).toEqual(state);
    expect(await web.config()).toBe(config);

    await web.faults({ serveOld: false });
    expect(await web.hurry(order.id)).toMatchObject({ status: 'deployed', error: null });
    expect(await served()).toEqual([fresh.thumbprint, old.thumbprint, fresh.thumbprint]);
  });

  it('loses a binding again that was added', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    const state = await web.state();
    await web.faults({ serveOld: true });
    web.start();
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(waits('handshake_mismatch'));
    expect(order.error?.evidence).toMatchObject({ seen: null, error: expect.stringContaining('breaks off') });
    expect(await web.state()).toEqual(state);
  });

  it('does not hold up an order whose bindings are right', async () => {
    const other = await web.certificate(['shop.example.org']);
    await web.addSite(1, ['*:443:www.example.com', '*:443:shop.example.org']);
    const right = await web.order(other, toSite, Date.now() - 1_000);
    web.start();
    await web.settled(right);
    await web.faults({ serveOld: true });
    const [wrong, again] = [await web.order(fresh, toSite), await web.order(other, toSite)];
    expect(await web.settled(again)).toMatchObject({ status: 'deployed' });
    expect(await web.settled(wrong)).toMatchObject(waits('handshake_mismatch'));
    expect(await served()).toEqual(['null', other.thumbprint]);
  });
});

describe('a host that cannot be reached', () => {
  it('is tried again until it answers', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    await web.faults({ unreachable: true });
    web.start();
    const { id, ...order } = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(waits('target_unreachable'));
    expect(await web.hurry(id)).toMatchObject(waits('target_unreachable', 2));
    await web.faults({ unreachable: false });
    expect(await web.hurry(id)).toMatchObject({ status: 'deployed', error: null });
    expect(await web.commits()).toBe(1);
  });

  it('is tried again for all orders that are due there', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    await web.faults({ unreachable: true });
    const ids = [await web.order(fresh, toSite), await web.order(old, toSite)];
    web.start();
    for (const id of ids) expect(await web.settled(id)).toMatchObject(waits('target_unreachable'));
  });
});

describe('a host that refuses a commit', () => {
  it('is as it was, and is asked again', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    const state = await web.state();
    await web.faults({ failCommits: 1 });
    web.start();
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(waits('commit_conflict'));
    expect(order.error?.evidence).toEqual({ hresult: '0x80070020' });
    expect(await web.state()).toEqual(state);
    expect(await web.hurry(order.id)).toMatchObject({ status: 'deployed', error: null });
  });

  it('since somebody else was writing there is asked again for all orders together', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:80:shop.example.org']);
    const ids = [await web.order(fresh, toSite), await web.order(await web.certificate(['shop.example.org']), toSite)];
    await web.faults({ failCommits: 1 });
    web.start();
    for (const id of ids) expect(await web.settled(id)).toMatchObject(waits('commit_conflict'));
    for (const id of ids) expect(await web.hurry(id)).toMatchObject({ status: 'deployed', error: null });
    expect(await web.commits()).toBeLessThanOrEqual(2);
  });
});

describe('a host that was changed between plan and commit', () => {
  it('is left as it is, and planned anew', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    web.start(interrupted(() => web.bind(old, 1, '*:443:api.example.com')));
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(waits('plan_drifted'));
    expect(await served()).toEqual([old.thumbprint]);
    expect(await web.hurry(order.id)).toMatchObject({ status: 'deployed', error: null });
    expect(await served()).toEqual([fresh.thumbprint, fresh.thumbprint]);
  });

  it('so that another site has the name now, is not touched there', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    web.start(interrupted(() => web.addSite(2, ['*:443:www.example.com'])));
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject({ status: 'failed', error: { code: 'binding_conflict' } });
    expect(await web.bindings()).toEqual(['2 *:443:www.example.com 1 null']);
  });

  it('by somebody who set a binding after the commit is not put back over that', async () => {
    await web.addSite(1, ['*:443:www.example.com', '*:443:api.example.com']);
    let reads = 0;
    web.start((host) =>
      wrapped(host, {
        async read(signal) {
          reads += 1;
          // The second look is the one that verifies the commit.
          if (reads === 2) await web.bind(old, 1, '*:443:api.example.com');
          return host.read(signal);
        },
      }),
    );
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(waits('handshake_mismatch'));
    expect(order.error?.evidence).toMatchObject({ binding: 'api.example.com:443', seen: old.thumbprint });
    expect(await served()).toEqual(['null', old.thumbprint]);
  });
});

describe('an order that no further attempt can help', () => {
  it('names a site that is gone', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    await web.addSite(2, ['*:80:www.example.com']);
    await web.writeConfig((text) => text.replace(/<site name="site1"[\s\S]*?<\/site>\s*/, ''));
    web.start();
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(failed('site_not_found'));
    expect(order.error?.evidence).toEqual({ sites: [2] });
    expect(await web.commits()).toBe(0);
  });

  it('finds nothing to bind, and tells why of each binding', async () => {
    await web.addSite(1, ['*:80:other.example.org', '*:443:shop.example.org', '*:443:']);
    web.start();
    const order = await web.deploy(fresh, toSite);
    expect(order).toMatchObject(failed('nothing_to_bind'));
    expect(order.error?.evidence).toEqual({
      skipped: [
        '*:443: has no host name: only with blankHost',
        '*:443:other.example.org (would be new): the certificate does not cover its host',
        '*:443:shop.example.org: the certificate does not cover its host',
      ],
      names: ['www.example.com', 'api.example.com'].map((name) => `${name}: site 1 has no binding with this host name`),
    });
  });

  it('is for a target that is gone', async () => {
    const pipeline = web.pipeline;
    await pipeline.redis.del(pipeline.store.keys.target('tgt_1'));
    web.start();
    expect(await web.deploy(fresh, toSite)).toMatchObject(failed('target_unknown'));
  });

  it('does not hold up the others', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    const lost = await web.order(fresh, { mode: 'site', site: 9 });
    const good = await web.order(fresh, toSite);
    web.start();
    expect(await web.settled(lost)).toMatchObject(failed('site_not_found'));
    expect(await web.settled(good)).toMatchObject({ status: 'deployed' });
    expect(await web.commits()).toBe(1);
  });
});
