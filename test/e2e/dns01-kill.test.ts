import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectRedis } from '#libs/store/redis';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { txtAt } from '../support/dns-providers.ts';
import { eventually, type LabSession, openLabSession } from '../support/lab-session.ts';

let dns: DnsLab;
let session: LabSession;
let redis: Redis;

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
  await session.lab.startService('validation-worker');
  const order = await session.until(id, 'it is issued', ({ complete }) => complete === true, 40_000);
  expect(order).toMatchObject({ attempts: { validation: 0 }, error: null });
  expect(session.lab.pebble.issued()).toHaveLength(1);
  await eventually('it is gone', 10_000, async () => {
    await dns.catchUp();
    return (await dns.valuesAt(name)).length === 0;
  });
  await nothingLeft(dns, redis, name);
}, 90_000);
