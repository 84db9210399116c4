import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accountLabel } from '#libs/challenges/dns-records';
import type { DnsProvider } from '#libs/dns/dns-provider';
import { openPowerDns } from '#libs/dns/providers/powerdns';
import { openRfc2136 } from '#libs/dns/providers/rfc2136';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type DnsLab, nothingLeft, startDnsLab } from '../support/dns-lab.ts';
import { never, providerDeps, txtAt } from '../support/dns-providers.ts';

type Json = Record<string, unknown>;

/** Orders with dns-account-01 and dns-persist-01: API, workers, Pebble, BIND and PowerDNS are the real ones. */
let dns: DnsLab;
let session: ApiSession;
let account: string;
let accountUrl: string;
let bind: string;
let powerdns: string;
/** Its key is none that the name server knows. */
let stranger: string;

const place = (names: string[], challenge: Json): Promise<string> =>
  session.order({ names, account, key: { type: 'ec-p256' }, challenge });
const issued = (id: string): Promise<Json> =>
  session.until(id, 'it is issued', ({ complete }) => complete === true, 25_000);
const credential = async (body: Json): Promise<string> =>
  String((await session.api.send('POST', '/v1/credentials', body)).id);
const openBind = (): Promise<DnsProvider> => {
  const settings = { server: dns.primary.server, keyName: 'certline.key', algorithm: 'hmac-sha256' } as const;
  return openRfc2136(settings, { key: dns.tsigKey }, providerDeps);
};
/** How often something was added at a name of BIND's. */
const added = async (name: string): Promise<number> =>
  (await dns.primary.log()).split(`adding an RR at '${name}' TXT`).length - 1;

beforeAll(async () => {
  dns = await startDnsLab();
  session = await openApiSession({ workers: true, env: dns.env, pebble: { dnsServer: dns.dnsServer } });
  account = await session.account({ allowInternalNames: true });
  accountUrl = String((await session.api.send('GET', `/v1/accounts/${account}`)).url);
  bind = await credential(dns.rfc2136('BIND'));
  powerdns = await credential(dns.powerDns('PowerDNS'));
  stranger = await credential(dns.rfc2136('wrong key', Buffer.alloc(32).toString('base64')));
});
afterAll(async () => {
  await session?.close();
  await dns?.close();
});

describe('an order with dns-account-01', { timeout: 60_000 }, () => {
  it('proves a wildcard and its apex at a name of the account, and leaves nothing there', async () => {
    const names = ['*.acct.fast.test', 'acct.fast.test'];
    const id = await place(names, { type: 'dns-account-01', credential: bind });
    expect(await issued(id)).toMatchObject({ status: 'issued', attempts: { validation: 0 } });
    const name = `${accountLabel(accountUrl)}._acme-challenge.acct.fast.test`;
    expect([await added(name), await added('_acme-challenge.acct.fast.test')]).toEqual([2, 0]);
    await nothingLeft(dns, session.redis, name);
  });
});

describe('orders with dns-persist-01', { timeout: 60_000 }, () => {
  const value = () => `pebble.letsencrypt.org; accounturi=${accountUrl}`;
  const persist = (writer: string): Json => ({ type: 'dns-persist-01', credential: writer });

  it('write a record that stays, and write nothing and need no right to when it is there', async () => {
    const name = '_validation-persist.kept.fast.test';
    await issued(await place(['kept.fast.test'], persist(bind)));
    expect(await dns.valuesAt(name)).toEqual([value()]);
    const second = await issued(await place(['kept.fast.test'], persist(stranger)));
    expect(second).toMatchObject({ status: 'issued', error: null });
    expect([await added(name), await dns.valuesAt(name)]).toEqual([1, [value()]]);
    expect(await session.store.cleanUps.count()).toBe(0);
    // The credential was of no use, and is not held against anybody.
    expect(await session.api.send('GET', `/v1/credentials/${stranger}`)).toMatchObject({ parked: null });
  });

  it('for a wildcard add a record of wider policy beside a narrow one, which then does for both', async () => {
    const name = '_validation-persist.wide.fast.test';
    // Not by an order: the CA's resolver would keep for a minute what it saw.
    await (await openBind()).present({ zone: 'fast.test', name, value: value() }, never);
    await issued(await place(['*.wide.fast.test'], persist(bind)));
    const both = [value(), `${value()}; policy=wildcard`];
    expect(await dns.valuesAt(name)).toEqual(both);
    await issued(await place(['*.wide.fast.test', 'wide.fast.test'], persist(stranger)));
    expect([await added(name), await dns.valuesAt(name)]).toEqual([2, both]);
  });

  it('follow a CNAME to a zone at another provider', async () => {
    await dns.delegate('_validation-persist.led.slow.test', 'led.handed.test');
    await issued(await place(['led.slow.test'], persist(powerdns)));
    expect(await dns.valuesAt('led.handed.test')).toEqual([value()]);
  });
});

describe('a value that is long, with spaces and semicolons', () => {
  const value = `ca.example; accounturi=https://ca.example/acct/${'x'.repeat(500)}; policy=wildcard`;
  it.each<[string, string, () => string, () => Promise<DnsProvider>]>([
    [...(['BIND', 'fast.test'] as const), () => dns.primary.server, openBind],
    [
      ...(['PowerDNS', 'handed.test'] as const),
      () => dns.powerdns.address,
      () =>
        openPowerDns(
          { url: dns.powerdns.url, serverId: 'localhost', caBundle: null },
          { apiKey: dns.powerdns.apiKey },
          providerDeps,
        ),
    ],
  ])('is written to %s once and taken away as a whole', async (_, zone, server, open) => {
    const provider = await open();
    const record = { zone, name: `long.${zone}`, value };
    const other = { ...record, value: 'other' };
    for (const one of [record, other, record]) await provider.present(one, never);
    expect(await txtAt(server(), record.name)).toEqual([value, 'other']);
    await provider.cleanUp(record, never);
    expect(await txtAt(server(), record.name)).toEqual(['other']);
    await provider.cleanUp(other, never);
  });
});
