import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errorCodes } from '#libs/error-codes';
import { type ApiSession, dumpRedis, openApiSession } from '../support/api-session.ts';
import { type DnsLab, startDnsLab } from '../support/dns-lab.ts';

type Json = Record<string, unknown>;
interface Check {
  name: string;
  check: string;
  ok: boolean;
  code: keyof typeof errorCodes | null;
  detail: string;
  advice: string | null;
}

/** What a preview finds out about names, with a real BIND, a PowerDNS and the API's own challenge port. */
let dns: DnsLab;
let session: ApiSession;
let account: string;
let powerdns: string;

const preview = (body: Json) => session.api.send('POST', '/v1/orders/preview', { account, ...body });
const checksOf = async (body: Json): Promise<Check[]> => {
  const { checks, checksError } = await preview(body);
  expect(checksError).toBeNull();
  return checks as Check[];
};
/** `name check: ok` or `name check: code`, of all but the budget of the CA. */
const inShort = (checks: Check[]): string[] =>
  checks
    .filter(({ check }) => check !== 'budget')
    .map(({ name, check, code }) => `${name.replace('.example.com', '')} ${check}: ${code ?? 'ok'}`);
const detailOf = (checks: Check[], name: string, check: string): string | undefined =>
  checks.find((one) => one.name === `${name}.example.com` && one.check === check)?.detail;

beforeAll(async () => {
  dns = await startDnsLab();
  await dns.writePublic(
    ...['nowhere TXT "no address"', 'closed A 127.0.0.1', 'closed CAA 0 issue ";"', 'away A 127.0.0.9'],
    '_acme-challenge.handed CNAME handed.handed.test.',
  );
  session = await openApiSession({ workers: true, env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  account = await session.account();
  powerdns = String((await session.api.send('POST', '/v1/credentials', dns.powerDns('PowerDNS'))).id);
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('the preview of an order', { timeout: 60_000 }, () => {
  it('says of each name what would fail and what to do, and hides none behind another', async () => {
    const names = ['good', 'nowhere', 'closed', 'away', 'foreign', 'handed', 'by-hand'].map(
      (one) => `${one}.example.com`,
    );
    const challenges = [
      { match: 'foreign.example.com', type: 'dns-01', credential: powerdns },
      { match: 'handed.example.com', type: 'dns-01', credential: powerdns },
      { match: 'by-hand.example.com', type: 'dns-01', manual: true },
      { match: '*', type: 'http-01' },
    ];
    const checks = await checksOf({ names, challenges });
    expect(inShort(checks)).toEqual([
      ...['away caa: ok', 'away address: ok', 'away http-01: http01_unreachable'],
      ...['by-hand caa: ok', 'by-hand zone: ok'],
      ...['closed caa: caa_forbids', 'closed address: ok', 'closed http-01: ok'],
      ...['foreign caa: ok', 'foreign zone: ok', 'foreign credential: dns_zone_not_managed'],
      ...['good caa: ok', 'good address: ok', 'good http-01: ok'],
      ...['handed caa: ok', 'handed zone: ok', 'handed credential: ok'],
      ...['nowhere caa: ok', 'nowhere address: ca_dns_problem'],
    ]);
    for (const { ok, code, advice } of checks) {
      expect(ok).toBe(code === null);
      expect(advice).toBe(code === null ? null : errorCodes[code].advice);
    }
    expect(detailOf(checks, 'good', 'http-01')).toBe('an answer was put there and read back by the name');
    expect(detailOf(checks, 'good', 'caa')).toBe('there is no CAA record');
    expect(detailOf(checks, 'closed', 'caa')).toBe('0 issue ";" forbids every CA');
    expect(detailOf(checks, 'nowhere', 'address')).toBe(
      'nowhere.example.com has no address (A, AAAA): give it one, or prove it by a challenge in DNS',
    );
    expect(detailOf(checks, 'foreign', 'credential')).toBe(
      'it sees handed.test, and not example.com, where _acme-challenge.foreign.example.com is to be',
    );
    expect(detailOf(checks, 'handed', 'zone')).toBe(
      '_acme-challenge.handed.example.com → handed.handed.test is in the zone handed.test',
    );
    expect(detailOf(checks, 'by-hand', 'zone')).toBe(
      '_acme-challenge.by-hand.example.com is in the zone example.com; a person makes the record there',
    );
  });

  it('stores nothing, writes nothing to DNS and orders nothing', async () => {
    const body = {
      names: ['good.example.com', 'handed.example.com'],
      challenges: [
        { match: 'handed.example.com', type: 'dns-01', credential: powerdns },
        { match: '*', type: 'http-01' },
      ],
    };
    await preview(body);
    const [before, asked] = [await dumpRedis(session.redis), await session.caRequests()];
    expect(inShort(await checksOf(body))).toContain('good http-01: ok');
    expect(await dumpRedis(session.redis)).toEqual(before);
    expect(await session.caRequests()).toBe(asked);
    expect(await dns.valuesAt('handed.handed.test')).toEqual([]);
  });

  it('sees that a credential is refused, and leaves it as it is', async () => {
    const wrong = String((await session.api.send('POST', '/v1/credentials', dns.powerDns('Wrong', 'nobody-s-key'))).id);
    const checks = await checksOf({
      names: ['handed.example.com'],
      challenge: { type: 'dns-01', credential: wrong },
    });
    expect(inShort(checks)).toEqual([
      ...['handed caa: ok', 'handed zone: ok', 'handed credential: dns_credential_refused'],
    ]);
    expect(await session.api.send('GET', `/v1/credentials/${wrong}`)).toMatchObject({ parked: null });
  });

  it('does not look at CAA for a private CA, and says so', async () => {
    const inner = await session.account({ email: 'inner@example.com', allowInternalNames: true });
    const checks = await checksOf({ account: inner, names: ['closed.example.com'] });
    expect(inShort(checks)).toEqual(['closed caa: ok', 'closed address: ok', 'closed http-01: ok']);
    expect(detailOf(checks, 'closed', 'caa')).toMatch(/^not looked at: .*allowInternalNames/);
  });
});

describe('without a validation worker', () => {
  it('a preview shows all else, and says why nothing was looked at', async () => {
    const alone = await openApiSession({ workers: false });
    try {
      const id = await alone.account();
      const body = { account: id, names: ['www.example.com'] };
      expect(await alone.api.send('POST', '/v1/orders/preview', body)).toMatchObject({
        ...{ names: ['www.example.com'], checks: [], deployments: [] },
        checksError: {
          ...{ code: 'validation_unserved', detail: 'no validation worker is running' },
          advice: expect.stringContaining('services/validation-worker/main.ts'),
        },
      });
    } finally {
      await alone.close();
    }
  });
});
