import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { asCertlineError, type CertlineError } from '#libs/errors';
import { credentialSecretName } from '#libs/model/credential';
import type { Target, Transport } from '#libs/model/target';
import { createHostAccess } from '#libs/service/host-access';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import type { Redis } from '../../services/lab/redis.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

let server: Redis;
let pipeline: Pipeline;
const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));
const [seen, other] = [`SHA256:${'a'.repeat(43)}`, `SHA256:${'b'.repeat(43)}`];
const ssh = { kind: 'ssh', host: 'web01', port: 22, credential: 'cred_1', hostKey: null } satisfies Transport;

const targetWith = (transport: Transport): Target => ({
  ...{ id: 'tgt_1', name: 'web01', kind: 'iis', pool: 'default', windows: [], drift: 'report' as const, createdAt: 1 },
  transport,
});
const transportOf = (target: Target | null) => (target?.kind === 'iis' ? target.transport : null);
const access = (transport: Transport = ssh) => createHostAccess(pipeline.store, box, { transport });
const refusal = (work: Promise<unknown>): Promise<CertlineError> =>
  work.then(() => expect.fail('nothing was refused'), asCertlineError);

async function keep(text: string): Promise<void> {
  const { credentials, secrets } = pipeline.store;
  const record = { id: 'cred_1', name: 'admin', kind: 'ssh', username: 'Administrator', method: 'password' } as const;
  await credentials.create({ ...record, createdAt: 1 });
  await secrets.putOnce(credentialSecretName('cred_1'), box.seal(credentialSecretName('cred_1'), text));
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
});
afterEach(() => pipeline.close());

describe('the login of a host', () => {
  it('is the name of its credential with the opened secret', async () => {
    await keep(JSON.stringify({ password: 'hunter2' }));
    expect(await access().openCredential('cred_1')).toEqual({
      username: 'Administrator',
      secret: { password: 'hunter2' },
    });
  });

  it('is refused when there is no such credential', async () => {
    expect(await refusal(access().openCredential('cred_1'))).toMatchObject({ code: 'credential_unknown' });
  });

  it.each([
    ['is no JSON', 'hunter2'],
    ['is another kind of secret', JSON.stringify({ token: 'hunter2' })],
  ])('is refused when its secret %s, without repeating it', async (_, text) => {
    await keep(text);
    const error = await refusal(access().openCredential('cred_1'));
    expect([error.code, error.cause]).toEqual(['secret_unreadable', undefined]);
    expect(error.message).not.toContain('hunter');
  });
});

describe('the key of a host that is met for the first time', () => {
  /** The transport after the key was pinned by somebody who met the host as `met`. */
  async function pinned(stored: Transport, met: Transport = ssh, key = seen): Promise<Transport | null> {
    const { targets } = pipeline.store;
    await targets.create(targetWith(stored));
    await access(met).pinHostKey('tgt_1', key);
    return transportOf(await targets.get('tgt_1'));
  }

  it('is remembered', async () => {
    expect(await pinned(ssh)).toEqual({ ...ssh, hostKey: seen });
  });

  it('is remembered once', async () => {
    expect(await pinned({ ...ssh, hostKey: seen })).toEqual({ ...ssh, hostKey: seen });
  });

  it('does not take the place of another one that was pinned meanwhile', async () => {
    const error = await refusal(pinned({ ...ssh, hostKey: other }));
    expect(error).toMatchObject({ code: 'host_key_changed', evidence: { pinned: other, seen } });
    expect(transportOf(await pipeline.store.targets.get('tgt_1'))).toMatchObject({ hostKey: other });
  });

  it.each<[string, Transport]>([
    ['at another host', { ...ssh, host: 'web02' }],
    ['at another port', { ...ssh, port: 2222 }],
    ['by another way', { kind: 'local' }],
  ])('is forgotten when the target is %s now', async (_, now) => {
    expect(await pinned(now)).toEqual(now);
  });

  it('undoes no change that somebody else makes at the same time', async () => {
    const { targets } = pipeline.store;
    await targets.create(targetWith(ssh));
    const pools = Array.from({ length: 20 }, (_, n) => `pool-${n}`);
    await Promise.all([
      access().pinHostKey('tgt_1', seen),
      ...pools.map((pool) => targets.update('tgt_1', (target) => ({ ...target, pool }))),
    ]);
    const after = await targets.get('tgt_1');
    expect(transportOf(after)).toMatchObject({ hostKey: seen });
    expect(pools).toContain(after?.pool);
  });

  it('of a target that was deleted is forgotten', async () => {
    await access().pinHostKey('tgt_1', seen);
    expect(await pipeline.store.targets.get('tgt_1')).toBeNull();
  });
});
