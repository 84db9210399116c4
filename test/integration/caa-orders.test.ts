import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { eventually } from '../support/lab-session.ts';

type Json = Record<string, unknown>;

/** Orders for names with CAA records in a real BIND. Pebble does not look at CAA: what stops an order here is certline. */
let dns: DnsLab;
let session: ApiSession;
let account: string;
let accountUrl: string;
let bind: string;

const byHttp = { challenge: { type: 'http-01' } };
const byBind = (): Json => ({ challenge: { type: 'dns-01', credential: bind } });
/** Records of a name that itself, and all below it, lead to this machine. */
const at = (name: string, ...records: string[]): string[] => [
  ...[`${name} A 127.0.0.1`, `*.${name} A 127.0.0.1`],
  ...records.map((record) => `${name} CAA ${record}`),
];
/** Where the records of dns-01 for names of `example.com` lie: its own zone takes no updates. */
const leads = (name: string, to: string): string => `_acme-challenge.${name} CNAME ${to}.`;
const place = (names: string[], more: Json = byHttp): Promise<string> =>
  session.order({ names, account, key: { type: 'ec-p256' }, ...more });
const failed = (id: string): Promise<Json> =>
  session.until(id, 'it fails', ({ status }) => status === 'failed', 25_000);
const issued = (id: string): Promise<Json> =>
  session.until(id, 'it is issued', ({ complete }) => complete === true, 25_000);

/** How many requests of a kind Pebble got. */
async function requests(path: string): Promise<number> {
  const log = await readFile(join(session.lab.dir, 'pebble', 'pebble.log'), 'utf8');
  return log.split(` POST /${path}`).length - 1;
}

beforeAll(async () => {
  dns = await startDnsLab();
  const env = { ...dns.env, RETRY_DELAY_SCALE: '0.01' };
  // No nonce is refused by chance: requests are counted.
  const pebble = { dnsServer: dns.dnsServer, env: { PEBBLE_WFE_NONCEREJECT: '0' } };
  session = await openApiSession({ workers: true, env, pebble });
  account = await session.account();
  accountUrl = String((await session.api.send('GET', `/v1/accounts/${account}`)).url);
  bind = String((await session.api.send('POST', '/v1/credentials', dns.rfc2136('BIND'))).id);
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('an order for names with CAA records', { timeout: 90_000 }, () => {
  it('that forbid every CA fails without a request to one, and is issued when they are mended and it is retried', async () => {
    await dns.writePublic(...at('closed', '0 issue ";"'));
    const before = await requests('order-plz');
    const id = await place(['www.closed.example.com', 'open.example.com', 'closed.example.com']);
    const { error } = await failed(id);
    expect(error).toMatchObject({
      ...{ code: 'caa_forbids', stage: 'validation' },
      detail:
        'CAA forbids it. www.closed.example.com: 0 issue ";" forbids every CA (found at closed.example.com); closed.example.com: 0 issue ";" forbids every CA',
      evidence: {
        'www.closed.example.com': { at: 'closed.example.com' },
        'closed.example.com': { at: 'closed.example.com' },
      },
    });
    expect(await requests('order-plz')).toBe(before);

    await dns.writePublic(...at('closed', '0 issue "pebble.letsencrypt.org"'));
    await session.api.send('POST', `/v1/orders/${id}/retry`, {});
    await issued(id);
    expect(await requests('order-plz')).toBe(before + 1);
  });

  it('that name another CA fails, and says which the CA is', async () => {
    await dns.writePublic(...at('other', '0 issue "ca.example"'));
    const { error } = await failed(await place(['other.example.com']));
    expect(error).toMatchObject({
      code: 'caa_forbids',
      detail: 'CAA forbids it. other.example.com: 0 issue "ca.example" leaves out pebble.letsencrypt.org',
    });
  });

  it('is stopped for a wildcard by issuewild, and for other names is not', async () => {
    await dns.writePublic('wild CAA 0 issuewild ";"', leads('wild', 'wild.fast.test'));
    const { error } = await failed(await place(['*.wild.example.com'], byBind()));
    expect(error).toMatchObject({
      code: 'caa_forbids',
      detail: expect.stringContaining('*.wild.example.com: 0 issuewild ";"'),
    });
    await issued(await place(['wild.example.com'], byBind()));
    await nothingLeft(dns, session.redis, 'wild.fast.test');
  });

  it('is held to the account and the method that they name', async () => {
    const only = `0 issue "pebble.letsencrypt.org; accounturi=${accountUrl}; validationmethods=dns-01"`;
    await dns.writePublic(`bound CAA ${only}`, leads('bound', 'bound.fast.test'));
    const byMethod = await failed(await place(['bound.example.com']));
    expect(byMethod.error).toMatchObject({ detail: expect.stringContaining('does not allow http-01') });

    const other = await session.account({ email: 'others@example.com' });
    const byAccount = await failed(await place(['bound.example.com'], { ...byBind(), account: other }));
    expect(byAccount.error).toMatchObject({ detail: expect.stringContaining('is for another account than') });

    await issued(await place(['bound.example.com'], byBind()));
    await nothingLeft(dns, session.redis, 'bound.fast.test');
  });

  it('that came while it waited is stopped before the CA is told to look, and leaves nothing in DNS', async () => {
    const lead = leads('late', 'late.slow.test');
    await dns.writePublic(lead);
    const [orders, challenges] = [await requests('order-plz'), await requests('chalZ/')];
    const id = await place(['late.example.com'], byBind());
    await session.until(
      id,
      'it waits for ns2',
      ({ error }) => (error as Json | null)?.code === 'dns_record_not_visible',
    );
    await dns.writePublic(lead, 'late CAA 0 issue ";"');
    await dns.catchUp();
    expect((await failed(id)).error).toMatchObject({ code: 'caa_forbids' });
    expect(await requests('order-plz')).toBe(orders + 1);
    expect(await requests('chalZ/')).toBe(challenges);
    // Only by a new copy the other server hears of what was taken away.
    await eventually('it is gone at both', 20_000, async () => {
      await dns.catchUp();
      return (await dns.valuesAt('late.slow.test')).length === 0;
    });
    await nothingLeft(dns, session.redis, 'late.slow.test');
  });

  it('that cannot be looked up waits, as the CA would not issue either, and says how to do without', async () => {
    // A delegation to a server that has nothing of it.
    await dns.writePublic('lame NS ns2.host.test.');
    const before = await requests('order-plz');
    const id = await place(['www.lame.example.com']);
    const { status, error } = await session.until(id, 'it has failed once', (order) => order.error !== null);
    expect({ status, error }).toMatchObject({
      status: 'pending',
      error: {
        code: 'dns_lookup_failed',
        detail: expect.stringMatching(/^www\.lame\.example\.com \(CAA\).*CAA_CHECK=false/),
      },
    });
    await session.api.send('POST', `/v1/orders/${id}/cancel`);
    expect(await requests('order-plz')).toBe(before);
  });

  it('is left to the CA where it comes from a private one', async () => {
    await dns.writePublic(...at('private', '0 issue ";"'));
    const inner = await session.account({ email: 'inner@example.com', allowInternalNames: true });
    await issued(await place(['private.example.com'], { ...byHttp, account: inner }));
  });
});
