import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DnsProvider, ProviderDeps } from '#libs/dns/dns-provider';
import { acmeDns, openAcmeDns } from '#libs/dns/providers/acme-dns';
import { freePort } from '../../services/lab/running-program.ts';
import { type AcmeDns, type AcmeDnsAccount, startAcmeDns } from '../support/acme-dns.ts';
import { never, providerDeps, refusalOf, shownOf } from '../support/dns-providers.ts';

let server: AcmeDns;
let account: AcmeDnsAccount;
beforeEach(async () => {
  server = await startAcmeDns();
  account = await server.register();
});
afterEach(() => server.close());

const zone = 'example.com';
/** A value as a challenge has it: 43 characters. */
const digestOf = (text: string): string => createHash('sha256').update(text).digest('base64url');
const recordOf = (text: string) => ({ zone, name: `_acme-challenge.${zone}`, value: digestOf(text) });
const open = (
  changes: Partial<AcmeDnsAccount & { url: string }> = {},
  deps: Partial<ProviderDeps> = {},
): Promise<DnsProvider> => {
  const { url, subdomain, fulldomain, username, password } = { url: server.url, ...account, ...changes };
  return openAcmeDns(
    { url, subdomain, fulldomain, caBundle: null },
    { username, password },
    { ...providerDeps, ...deps },
  );
};

describe('acme-dns', () => {
  it('has the values of a name and of its wildcard, and those of the next order in their place', async () => {
    const provider = await open();
    for (const one of ['apex', 'wildcard']) await provider.present(recordOf(one), never);
    expect(server.values(account)).toEqual([digestOf('apex'), digestOf('wildcard')].sort());
    for (const one of ['apex', 'wildcard']) await provider.present(recordOf(`next ${one}`), never);
    expect(server.values(account)).toEqual([digestOf('next apex'), digestOf('next wildcard')].sort());
  });

  it('has both after an attempt that is made again from its beginning', async () => {
    const provider = await open();
    for (const one of ['apex', 'apex', 'wildcard', 'apex', 'wildcard']) await provider.present(recordOf(one), never);
    expect(server.values(account)).toEqual([digestOf('apex'), digestOf('wildcard')].sort());
  });

  it('is asked for nothing when a value is to go: there is no way', async () => {
    const provider = await open();
    await provider.present(recordOf('apex'), never);
    const { requests } = server;
    await provider.cleanUp(recordOf('apex'), never);
    await provider.cleanUp(recordOf('apex'), never);
    expect(server.requests).toBe(requests);
  });

  it('says where the CNAME has to lead, and no zones', async () => {
    const provider = await open({ fulldomain: `${account.fulldomain.toUpperCase()}.` });
    expect(provider.delegatedName?.()).toBe(account.fulldomain);
    expect(await provider.zones(never)).toBeNull();
  });

  it('leaves the values of other accounts alone', async () => {
    const other = await server.register();
    await (await open(other)).present(recordOf('theirs'), never);
    await (await open()).present(recordOf('ours'), never);
    expect([server.values(other), server.values(account)]).toEqual([[digestOf('theirs')], [digestOf('ours')]]);
  });

  it('refuses a wrong password, an unknown user, a subdomain of others and an address that is not allowed', async () => {
    const other = await server.register();
    const elsewhere = await server.register(['192.0.2.0/24']);
    const password = 'x'.repeat(40);
    for (const changes of [{ password }, { username: other.username }, { subdomain: other.subdomain }, elsewhere]) {
      const refused = await refusalOf((await open(changes)).present(recordOf('apex'), never));
      expect(refused).toMatchObject({ code: 'dns_credential_refused', plan: { kind: 'park' } });
      expect(refused.message).toContain('allowfrom');
      expect(shownOf(refused)).not.toMatch(new RegExp(`${password}|${account.password}`));
    }
    expect([account, other, elsewhere].flatMap((one) => server.values(one))).toEqual([]);
    const near = await server.register(['127.0.0.0/8']);
    await (await open(near)).present(recordOf('apex'), never);
  });

  it('that takes no such value, is no acme-dns, has lost its database or is down, says so', async () => {
    const short = { ...recordOf('apex'), value: 'short' };
    expect(await refusalOf((await open()).present(short, never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining('bad_txt') },
    });
    const wrong = await open({ url: `${server.url}/api/` });
    expect(await refusalOf(wrong.present(recordOf('apex'), never))).toMatchObject({
      ...{ code: 'dns_provider_refused', message: expect.stringContaining('/api/update') },
    });
    server.breakDown();
    expect(await refusalOf((await open()).present(recordOf('apex'), never))).toMatchObject({
      ...{ code: 'dns_provider_unreachable', message: expect.stringContaining('db_error') },
    });
    const down = await open({ url: `http://127.0.0.1:${await freePort()}` });
    expect(await refusalOf(down.present(recordOf('apex'), never))).toMatchObject({
      ...{ code: 'dns_provider_unreachable', plan: { kind: 'retryable' } },
    });
  });

  it('is not asked at a private address unless that is allowed', async () => {
    const provider = await open({}, { allowPrivate: false });
    const { requests } = server;
    const refused = await refusalOf(provider.present(recordOf('apex'), never));
    expect(refused).toMatchObject({ code: 'dns_provider_refused', plan: { kind: 'permanent' } });
    expect(refused.message).toContain('ALLOW_PRIVATE_DNS_SERVERS');
    expect(server.requests).toBe(requests);
  });

  it('has settings and a secret as /register answers them', () => {
    const { username, password, fulldomain, subdomain } = account;
    const { url } = server;
    expect(acmeDns.settings.safeParse({ url, fulldomain, subdomain }).success).toBe(true);
    expect(acmeDns.secret.safeParse({ username, password }).success).toBe(true);
    expect(acmeDns.secret.safeParse({ username: 'me', password }).success).toBe(false);
    expect(acmeDns.settings.safeParse({ url, fulldomain, subdomain: fulldomain }).success).toBe(false);
  });
});
