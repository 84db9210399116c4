import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createStore } from '#libs/store/store';
import { type DnsLab, inHandedZone, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { type LabSession, openLabSession } from '../support/lab-session.ts';

type Json = Record<string, unknown>;

/** A credential that its provider refuses holds its orders until it is mended; certline is a process of its own here. */
let dns: DnsLab;
let session: LabSession;
let redis: RedisClient;
let account: string;

const make = async (body: Json): Promise<string> =>
  String((await session.api.send('POST', '/v1/credentials', body)).id);
const place = (name: string, credential: string): Promise<string> =>
  session.order({ names: [name], account, key: { type: 'ec-p256' }, challenge: { type: 'dns-01', credential } });
const parked = (id: string): Promise<Json> =>
  session.until(id, 'it is parked', ({ parkedOn }) => parkedOn !== null, 25_000);

/** What was logged as an error of a credential. */
async function errorsOf(credential: string): Promise<Json[]> {
  const lines = (await readFile(join(session.lab.dir, 'standalone-1.log'), 'utf8')).split('\n');
  const entries = lines.flatMap((line): Json[] => (line.startsWith('{') ? [JSON.parse(line)] : []));
  return entries.filter(({ level, on }) => (level === 50 || level === 'error') && on === credential);
}

/** What the live stream had of a credential. */
async function told(credential: string): Promise<unknown[]> {
  const entries = await redis.xrange(createStore(redis, 'certline').keys.events, '-', '+');
  const events = entries.map(([, [, text = '']]): Json => JSON.parse(text));
  return events.filter(({ on }) => on === credential);
}

async function gauge(state: string): Promise<number> {
  const text = await (await fetch(`${session.lab.apiUrl}/metrics`)).text();
  return Number(new RegExp(`^certline_credentials\\{state="${state}"[^}]*\\} (\\d+)$`, 'm').exec(text)?.[1]);
}

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openLabSession({ env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  await session.lab.startService('standalone');
  redis = connectRedis(session.lab.redis.url, 'worker', () => {});
  const { directory, caBundle } = session.lab.pebble;
  const registration = { ca: directory, email: 'ops@example.com', termsOfServiceAgreed: true, caBundle };
  account = String((await session.api.send('POST', '/v1/accounts', { ...registration, allowInternalNames: true })).id);
});
afterAll(async () => {
  redis?.disconnect();
  await session?.close();
  await dns?.close();
});

describe('a DNS credential that is refused', { timeout: 90_000 }, () => {
  it('holds all of its orders, tells it once (log, event, gauge), is not tried again, and lets 20 of them go on with another secret', async () => {
    const credential = await make(dns.rfc2136('wrong key', randomBytes(32).toString('base64')));
    const first = await place('n1.fast.test', credential);
    expect(await parked(first)).toMatchObject({
      ...{ status: 'pending', parkedOn: credential, attempts: { validation: 0 } },
      error: { code: 'dns_credential_refused', advice: expect.stringContaining('/secret') },
    });
    const refusals = async (): Promise<number> =>
      (await dns.primary.log()).match(/tsig verify failure \(BADSIG\)/gi)?.length ?? 0;
    expect(await refusals()).toBe(1);

    const ids = [first];
    for (let i = 2; i <= 20; i += 1) {
      const id = await place(`n${i}.fast.test`, credential);
      ids.push(id);
      if (i % 4 === 0) await parked(id);
    }
    for (const id of ids) expect(await parked(id)).toMatchObject({ parkedOn: credential });
    expect(await refusals()).toBe(1);
    expect(await errorsOf(credential)).toMatchObject([
      { code: 'dns_credential_refused', msg: expect.stringContaining('are held') },
    ]);
    const shown = await session.api.send('GET', `/v1/credentials/${credential}`);
    expect(shown.parked).toMatchObject({
      code: 'dns_credential_refused',
      detail: expect.stringContaining('secret.key'),
    });
    expect(await told(credential)).toMatchObject([{ type: 'credential_parked', code: 'dns_credential_refused' }]);
    expect([await gauge('parked'), await gauge('ok')]).toEqual([1, 0]);
    // The account is not to blame.
    expect(await session.api.send('GET', `/v1/accounts/${account}`)).toMatchObject({ parked: null });

    const put = await session.api.send('PUT', `/v1/credentials/${credential}/secret`, { secret: { key: dns.tsigKey } });
    expect(put).toMatchObject({ id: credential, parked: null });
    expect(await told(credential)).toMatchObject([{ type: 'credential_parked' }, { type: 'credential_resumed' }]);
    expect([await gauge('parked'), await gauge('ok')]).toEqual([0, 1]);
    for (const id of ids) {
      const order = await session.until(id, 'it is issued', ({ complete }) => complete === true, 60_000);
      expect(order).toMatchObject({ parkedOn: null, attempts: { validation: 0 }, error: null });
    }
    await nothingLeft(dns, redis, ...ids.map((_id, i) => `_acme-challenge.n${i + 1}.fast.test`));
  }, 120_000);

  it('is told by an API too, and mended the same way', async () => {
    const credential = await make(dns.powerDns('wrong API key', 'wrong'));
    const id = await place('www.delegating.test', credential);
    expect(await parked(id)).toMatchObject({ parkedOn: credential, error: { code: 'dns_credential_refused' } });
    const secret = { apiKey: dns.powerdns.apiKey };
    await session.api.send('PUT', `/v1/credentials/${credential}/secret`, { secret });
    await session.until(id, 'it is issued', ({ complete }) => complete === true, 25_000);
    await nothingLeft(dns, redis, inHandedZone);
  });

  it('is not deleted while orders are held for it; when they are called off it is', async () => {
    const credential = await make(dns.rfc2136('to be deleted', randomBytes(32).toString('base64')));
    const id = await place('held.fast.test', credential);
    await parked(id);
    const remove = (query = '') => session.api.request('DELETE', `/v1/credentials/${credential}${query}`);
    expect(await remove()).toMatchObject({
      status: 409,
      body: { code: 'record_in_use', detail: expect.stringContaining(id) },
    });
    expect(await remove('?leaveRecords=true')).toMatchObject({ status: 409 });
    await session.api.send('POST', `/v1/orders/${id}/cancel`);
    // With this secret nobody will take the record away.
    expect(await remove()).toMatchObject({
      status: 409,
      body: { code: 'record_in_use', detail: expect.stringContaining('leaveRecords=true') },
    });
    expect(await remove('?leaveRecords=true')).toMatchObject({ status: 200, body: { id: credential } });
  });
});
