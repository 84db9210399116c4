import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DnsProvider } from '#libs/dns/dns-provider';
import { openRfc2136 } from '#libs/dns/providers/rfc2136';
import { stages } from '#libs/queues/stages';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { never, providerDeps } from '../support/dns-providers.ts';

type Json = Record<string, unknown>;
interface Wanted {
  type: string;
  name: string;
  value: string;
  visible?: boolean;
}

/** Orders whose records a person makes, here in BIND: API, workers, Pebble and BIND are the real ones. */
let dns: DnsLab;
let session: ApiSession;
let account: string;
let person: DnsProvider;

const manual = (type = 'dns-01'): Json => ({ challenge: { type, manual: true } });
const place = (names: string[], challenges: Json = manual()): Promise<string> =>
  session.order({ names, account, key: { type: 'ec-p256' }, ...challenges });
const issued = (id: string): Promise<Json> =>
  session.until(id, 'it is issued', ({ complete }) => complete === true, 40_000);
const waiting = (id: string): Promise<Json> =>
  session.until(id, 'it waits', ({ nextAttemptAt, error }) => nextAttemptAt !== null && error !== null, 25_000);
const recordsOf = ({ records }: Json): Wanted[] => records as Wanted[];
async function make(records: Pick<Wanted, 'name' | 'value'>[]): Promise<void> {
  for (const { name, value } of records) await person.present({ zone: 'fast.test', name, value }, never);
}
async function unmake(records: Pick<Wanted, 'name' | 'value'>[]): Promise<void> {
  for (const { name, value } of records) await person.cleanUp({ zone: 'fast.test', name, value }, never);
}
const goOn = (id: string): Promise<Json> => session.api.send('POST', `/v1/orders/${id}/continue`);
const told = async (id: string): Promise<string[]> =>
  (await session.store.history(id))
    .filter(({ type }) => type.startsWith('records_'))
    .map(({ type, detail }) => `${type}: ${detail}`);
const lineOf = ({ name, value }: Wanted): string => `${name} TXT "${value}"`;

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openApiSession({ workers: true, env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  account = await session.account({ allowInternalNames: true });
  const settings = { server: dns.primary.server, keyName: 'certline.key', algorithm: 'hmac-sha256' } as const;
  person = await openRfc2136(settings, { key: dns.tsigKey }, providerDeps);
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('an order whose records a person makes', { timeout: 90_000 }, () => {
  it('shows all of them at once, says which it saw, and goes on by itself when all are there', async () => {
    const id = await place(['one.fast.test', '*.two.fast.test']);
    const order = await waiting(id);
    const records = recordsOf(order);
    expect(records).toEqual(
      ['_acme-challenge.one.fast.test', '_acme-challenge.two.fast.test'].map((name) => ({
        ...{ type: 'TXT', name, visible: false, value: expect.stringMatching(/^[\w-]{43}$/) },
      })),
    );
    const [first, second] = records as [Wanted, Wanted];
    expect(order).toMatchObject({ status: 'pending', attempts: { validation: 0 } });
    expect(order.error).toMatchObject({ code: 'dns_record_awaited' });
    for (const { name, value } of records)
      expect(order.error).toMatchObject({
        detail: expect.stringContaining(`Make the TXT record ${name} with the value "${value}".`),
      });
    expect(await told(id)).toEqual([`records_wanted: ${lineOf(first)}; ${lineOf(second)}`]);

    await make([first]);
    const seen = await session.until(id, 'it saw the first', (one) => recordsOf(one)[0]?.visible === true, 25_000);
    expect(recordsOf(seen)).toEqual([{ ...first, visible: true }, second]);
    const { items } = (await session.api.send('GET', '/v1/orders')) as { items: Json[] };
    expect(items.find((one) => one.id === id)?.records).toEqual(recordsOf(seen));

    await make([second]);
    expect(await issued(id)).toMatchObject({ epoch: 1, attempts: { validation: 0 }, error: null, records: [] });
    expect((await told(id)).slice(1)).toEqual([`records_removable: ${lineOf(first)}; ${lineOf(second)}`]);
    // They are the person's.
    expect(await session.store.cleanUps.count()).toBe(0);
    expect(await dns.valuesAt(first.name)).toEqual([first.value]);
    await unmake(records);
  });

  it('goes on at once when it is continued', async () => {
    const id = await place(['asked.fast.test'], manual('dns-account-01'));
    const order = await waiting(id);
    await make(recordsOf(order));
    expect(await goOn(id)).toMatchObject({ id, epoch: 2, nextAttemptAt: null });
    expect(await issued(id)).toMatchObject({ epoch: 2, attempts: { validation: 0 } });
    const history = await session.store.history(id);
    expect(history.filter(({ type }) => type === 'order_continued')).toHaveLength(1);
    const again = history.find(({ type, epoch }) => type === 'stage_started' && epoch === 2);
    expect(again?.at).toBeLessThan(Date.parse(String(order.nextAttemptAt)));
    expect(await session.api.request('POST', `/v1/orders/${id}/continue`)).toMatchObject({
      status: 409,
      body: { code: 'order_state_conflict', detail: expect.stringContaining('the order is issued') },
    });
    await unmake(recordsOf(order));
  });

  it('takes no slot of a worker while it waits, and ends when it is called off', async () => {
    const many = Array.from({ length: stages.validation.concurrency + 1 }, (_, at) => `many-${at}.fast.test`);
    const ids = await Promise.all(many.map((name) => place([name])));
    await Promise.all(ids.map(waiting));
    const { id: credential } = await session.api.send('POST', '/v1/credentials', dns.rfc2136('BIND'));
    const between = await place(['between.fast.test'], { challenge: { type: 'dns-01', credential } });
    await issued(between);
    await nothingLeft(dns, session.redis, '_acme-challenge.between.fast.test');
    for (const id of ids) {
      const [record] = recordsOf(await session.read(id)) as [Wanted];
      const order = await session.api.send('POST', `/v1/orders/${id}/cancel`);
      expect(order).toMatchObject({ status: 'cancelled', records: [] });
      expect(await told(id)).toEqual([`records_wanted: ${lineOf(record)}`, `records_removable: ${lineOf(record)}`]);
    }
  });

  it('needs no person any more when the record of dns-persist-01 is there', async () => {
    const id = await place(['stays.fast.test'], manual('dns-persist-01'));
    const [record] = recordsOf(await waiting(id)) as [Wanted];
    const until = Math.round(Date.now() / 1000) + 3_600;
    await make([{ ...record, value: `${record.value}; persistUntil=${until}` }]);
    await goOn(id);
    await issued(id);
    expect(await told(id)).toEqual([`records_wanted: ${lineOf(record)}`]);
    const next = await place(['stays.fast.test'], manual('dns-persist-01'));
    expect(await issued(next)).toMatchObject({ epoch: 1, error: null });
    expect(await told(next)).toEqual([]);
  });
});

describe('an order that waits for a name server', { timeout: 60_000 }, () => {
  it('is looked at again at once when it is continued', async () => {
    const { id: credential } = await session.api.send('POST', '/v1/credentials', dns.rfc2136('slow'));
    const id = await place(['again.slow.test'], { challenge: { type: 'dns-01', credential } });
    expect((await waiting(id)).error).toMatchObject({ code: 'dns_record_not_visible' });
    await dns.catchUp();
    await goOn(id);
    expect(await issued(id)).toMatchObject({ epoch: 2 });
  });
});
