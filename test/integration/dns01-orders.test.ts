import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type DnsLab, inHandedZone, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { startDnsReceiver } from '../support/dns-receiver.ts';
import { eventually } from '../support/lab-session.ts';

type Json = Record<string, unknown>;

/** Orders with dns-01 from the request to the certificate: API, workers, Pebble, BIND and PowerDNS are the real ones. */
let dns: DnsLab;
let session: ApiSession;
let account: string;
let bind: string;
let powerdns: string;

const place = (names: string[], challenges: Json): Promise<string> =>
  session.order({ names, account, key: { type: 'ec-p256' }, ...challenges });
const byBind = (): Json => ({ challenge: { type: 'dns-01', credential: bind } });
const issued = (id: string): Promise<Json> =>
  session.until(id, 'it is issued', ({ complete }) => complete === true, 25_000);
const credential = async (body: Json): Promise<string> =>
  String((await session.api.send('POST', '/v1/credentials', body)).id);

/** The names in the certificate of an order, sorted. */
async function namesIn({ certificate }: Json): Promise<string[]> {
  const { text } = await session.api.send('GET', `/v1/certificates/${certificate}/chain.pem`);
  const { subjectAltName = '' } = new X509Certificate(String(text));
  return subjectAltName
    .split(', ')
    .map((name) => name.replace('DNS:', ''))
    .sort();
}

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openApiSession({ workers: true, env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  account = await session.account({ allowInternalNames: true });
  bind = await credential(dns.rfc2136('BIND'));
  powerdns = await credential(dns.powerDns('PowerDNS'));
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('an order with dns-01', { timeout: 90_000 }, () => {
  it('for a wildcard and its apex has both values at one name, and leaves nothing there', async () => {
    const id = await place(['*.fast.test', 'fast.test'], byBind());
    const order = await issued(id);
    expect(order).toMatchObject({ status: 'issued', attempts: { validation: 0 }, error: null });
    expect(await namesIn(order)).toEqual(['*.fast.test', 'fast.test']);
    await nothingLeft(dns, session.redis, '_acme-challenge.fast.test');
    const { rows } = { rows: await dns.primary.log() };
    // Two values were added by updates, and the same two taken away.
    expect(rows.match(/adding an RR at '_acme-challenge.fast.test' TXT/g)).toHaveLength(2);
    expect(rows.match(/deleting an RR at _acme-challenge.fast.test TXT/g)).toHaveLength(2);
  });

  it('follows a CNAME to a zone at another provider, whose credential is the one to name', async () => {
    const challenges = [{ match: '*.delegating.test', type: 'dns-01', credential: powerdns }];
    const id = await place(['www.delegating.test'], { challenges });
    expect(await namesIn(await issued(id))).toEqual(['www.delegating.test']);
    await nothingLeft(dns, session.redis, inHandedZone);
    const changes = dns.powerdns.rows("SELECT name FROM records WHERE type = 'TXT'");
    expect(changes).toEqual([]);
  });

  it('proves each name as the first rule for it says, http-01 among them', async () => {
    const challenges = [
      { match: 'web.fast.test', type: 'http-01' },
      { match: '*.delegating.test', type: 'dns-01', credential: powerdns },
      { match: '*', type: 'dns-01', credential: bind },
    ];
    const names = ['web.fast.test', 'www.delegating.test', '*.sub.fast.test'];
    const id = await place(names, { challenges });
    const order = await issued(id);
    expect(order).toMatchObject({ challenge: null, challenges });
    expect(await namesIn(order)).toEqual([...names].sort());
    await nothingLeft(dns, session.redis, inHandedZone, '_acme-challenge.sub.fast.test');
  });

  it('waits for a name server that lags, names it, uses no attempt, and goes on when that one has it', async () => {
    const id = await place(['www.slow.test'], byBind());
    const waiting = await session.until(id, 'it waits', ({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(waiting).toMatchObject({ status: 'pending', attempts: { validation: 0 } });
    expect(waiting.error).toMatchObject({
      code: 'dns_record_not_visible',
      detail: expect.stringMatching(/ns2\.host\.test \(127\.0\.0\.4\) has no TXT there .*The other one shows it\./),
    });
    expect(await dns.valuesAt('_acme-challenge.www.slow.test')).toHaveLength(1);
    await dns.catchUp();
    expect(await issued(id)).toMatchObject({ attempts: { validation: 0 }, error: null });
    // Only now the other server hears of what was taken away.
    await eventually('it is gone at the first', 20_000, async () => {
      await dns.catchUp();
      return (await dns.valuesAt('_acme-challenge.www.slow.test')).length === 0;
    });
    await nothingLeft(dns, session.redis, '_acme-challenge.www.slow.test');
  });

  it('goes where a CNAME leads that is mended while it waits, and takes away what it wrote before', async () => {
    const name = '_acme-challenge.moved.slow.test';
    const id = await place(['moved.slow.test'], byBind());
    await session.until(id, 'it waits', ({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(await dns.valuesAt(name)).toHaveLength(1);
    await dns.delegate(name, 'moved.fast.test');
    expect(await issued(id)).toMatchObject({ error: null });
    await nothingLeft(dns, session.redis, name, 'moved.fast.test');
  });
});

describe('an order whose DNS provider', { timeout: 60_000 }, () => {
  const later = { 'retry-after': '3600' };
  const again = { status: 'pending', attempts: { validation: 1 }, parkedOn: null };
  const atOnce = { status: 'failed', attempts: { validation: 1 }, parkedOn: null };
  it.each([
    ['wants fewer requests is tried again when that says', 429, later, 'dns_provider_busy', again],
    ['is in trouble is tried again when that says', 503, later, 'dns_provider_unreachable', again],
    ['knows no such zone fails at once', 404, {}, 'dns_zone_not_managed', atOnce],
    ['refuses the change fails at once', 422, {}, 'dns_provider_refused', atOnce],
    ['refuses the credential is held for that', 403, {}, 'dns_credential_refused', { attempts: { validation: 0 } }],
  ])('%s', async (_, status, headers, code, shown) => {
    const receiver = await startDnsReceiver((response) => response.writeHead(status, headers).end('why not'));
    const by = await credential({ ...receiver.body, name: code });
    const id = await place([`n${status}.fast.test`], { challenge: { type: 'dns-01', credential: by } });
    const before = Date.now();
    const order = await session.until(id, 'it has failed once', ({ error }) => error !== null);
    expect(order).toMatchObject({
      ...{ ...shown, stage: 'validation', epoch: 1, complete: false },
      error: { code, stage: 'validation', detail: expect.stringContaining('why not'), advice: expect.any(String) },
    });
    if (shown !== again) expect(order.nextAttemptAt).toBeNull();
    else expect(Date.parse(String(order.nextAttemptAt))).toBeGreaterThanOrEqual(before + 3_600_000);
    if (code === 'dns_credential_refused') expect(order.parkedOn).toBe(by);
    if (status !== 422 && status !== 404) await session.api.send('POST', `/v1/orders/${id}/cancel`);
    await receiver.close();
  });
});

describe('an order for a name', { timeout: 60_000 }, () => {
  it('that is in no zone fails at once, and says what to check', async () => {
    const id = await place(['www.nobody-has-this.com'], byBind());
    const order = await session.until(id, 'it has failed', ({ error }) => error !== null);
    expect(order).toMatchObject({
      ...{ status: 'failed', stage: 'validation', attempts: { validation: 1 }, nextAttemptAt: null },
      error: { code: 'dns_zone_not_found', stage: 'validation', detail: expect.stringContaining('lies in no zone') },
    });
  });
});
