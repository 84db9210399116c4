import { afterAll, beforeAll, expect, it } from 'vitest';
import { createKeys } from '#libs/store/keys';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { txtAt } from '../support/dns-providers.ts';
import { eventually, type LabSession, openLabSession } from '../support/lab-session.ts';

let dns: DnsLab;
let session: LabSession;
let redis: RedisClient;

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openLabSession({ env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  redis = connectRedis(session.lab.redis.url, 'worker', () => {});
  for (const name of ['api', 'issuance-worker', 'scheduler'] as const) await session.lab.startService(name);
});
afterAll(async () => {
  redis?.disconnect();
  await session?.close();
  await dns?.close();
});

it('an order whose validation worker is killed right after it wrote the record is finished by another one, and nothing is left', async () => {
  const { directory, caBundle } = session.lab.pebble;
  const registration = { ca: directory, email: 'ops@example.com', termsOfServiceAgreed: true, caBundle };
  const account = await session.api.send('POST', '/v1/accounts', { ...registration, allowInternalNames: true });
  const { id: credential } = await session.api.send('POST', '/v1/credentials', dns.rfc2136('BIND'));
  const worker = await session.lab.startService('validation-worker');
  // It waits for this one's answer, with the record written.
  await dns.secondary.signal('SIGSTOP');
  const challenge = { type: 'dns-01', credential };
  const id = await session.order({
    names: ['killed.slow.test'],
    account: account.id,
    key: { type: 'ec-p256' },
    challenge,
  });
  const name = '_acme-challenge.killed.slow.test';
  await eventually('it is written', 15_000, async () => (await txtAt(dns.primary.server, name)).length === 1);
  await worker.stop('SIGKILL', 0);
  await dns.secondary.signal('SIGCONT');
  await dns.catchUp();
  expect(await session.read(id)).toMatchObject({ status: 'pending', nextAttemptAt: null, error: null });
  const other = await session.lab.startService('validation-worker');
  const order = await session.until(id, 'it is issued', ({ complete }) => complete === true, 40_000);
  expect(order).toMatchObject({ attempts: { validation: 0 }, error: null });
  expect(session.lab.pebble.issued()).toHaveLength(1);
  await eventually('it is gone', 30_000, async () => {
    await dns.catchUp();
    return (await dns.valuesAt(name)).length === 0;
  });
  await nothingLeft(dns, redis, name);
  await other.stop('SIGTERM', 12_000);
}, 90_000);

it('the record of a test of a credential whose worker is killed before it took it away is gone some minutes later', async () => {
  const { id } = await session.api.send('POST', '/v1/credentials', dns.rfc2136('to be tested'));
  const worker = await session.lab.startService('validation-worker');
  const { cleanUps } = createKeys('certline');
  const gone = new AbortController();
  // It looks for the record on this one for a while.
  await dns.secondary.signal('SIGSTOP');
  const asked = fetch(`${session.lab.apiUrl}/v1/credentials/${id}/test`, {
    ...{ method: 'POST', body: JSON.stringify({ zone: 'slow.test' }), signal: gone.signal },
    headers: { authorization: `Bearer ${session.lab.apiKey}`, 'content-type': 'application/json' },
  }).catch(() => null);
  const name = await eventually('it is written', 15_000, async () => {
    const [entry] = await redis.zrange(cleanUps, '0', '-1');
    const { record } = JSON.parse(entry ?? '{"record":null}');
    return record !== null && (await txtAt(dns.primary.server, record)).length === 1 && String(record);
  });
  await worker.stop('SIGKILL', 0);
  gone.abort();
  expect(await asked).toBeNull();
  await dns.secondary.signal('SIGCONT');
  const [entry = '', due] = await redis.zrange(cleanUps, '0', '-1', 'WITHSCORES');
  expect(JSON.parse(entry)).toMatchObject({ order: 'test', credential: id, record: name });
  expect(Number(due)).toBeGreaterThan(Date.now());
  expect(Number(due)).toBeLessThan(Date.now() + 180_000);
  // The minutes go by.
  await redis.zadd(cleanUps, 'XX', Date.now(), entry);
  await session.lab.startService('validation-worker');
  await eventually('it is gone', 45_000, async () => (await txtAt(dns.primary.server, name)).length === 0);
  await dns.catchUp();
  await nothingLeft(dns, redis, name);
}, 120_000);
