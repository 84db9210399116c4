import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openAzure } from '#libs/dns/providers/azure';
import {
  type AzureStandIn,
  azureError,
  clientId,
  clientSecret,
  startAzure,
  subscriptionId,
  tenantId,
} from '../support/dns-stand-ins/azure.ts';
import {
  depsOf,
  describeProvider,
  errorOf,
  name,
  record,
  signal,
  value,
  zone,
} from '../support/dns-stand-ins/behaviours.ts';
import type { StandIn } from '../support/dns-stand-ins/stand-in.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';

const principal = { subscriptionId, tenantId, clientId, cloud: 'public' as const };
const machine = { subscriptionId, cloud: 'public' as const };
const at = ({ baseUrl }: StandIn) => ({ signIn: baseUrl, management: baseUrl, metadata: baseUrl });

describeProvider({
  name: 'azure',
  start: startAzure,
  open: (standIn, deps) => openAzure(principal, { clientSecret }, deps, at(standIn)),
  openWrong: (standIn, deps) => openAzure(principal, { clientSecret: 'wrong-secret' }, deps, at(standIn)),
  secrets: [clientSecret, 'token-1'],
  busy: () => [
    { answer: { ...azureError(429, 'TooManyRequests', 'wait'), headers: { 'retry-after': '17' } }, waitMs: 17_000 },
  ],
  forbidden: [azureError(403, 'AuthorizationFailed', 'The client does not have authorization to perform action')],
  guardsRemoval: true,
  hasPrivateZones: true,
  shortestTtl: null,
});

describe('Azure DNS', () => {
  let clock: FakeClock;
  let standIn: AzureStandIn;
  beforeEach(async () => {
    clock = fakeClock();
    standIn = await startAzure();
  });
  afterEach(() => standIn.close());
  const signIns = (): number => standIn.requests.filter(({ url }) => url.pathname.endsWith('/token')).length;

  it('keeps a token until shortly before its end', async () => {
    standIn.addZone(zone);
    const provider = await openAzure(principal, { clientSecret }, depsOf(clock), at(standIn));
    await provider.present(record, signal);
    clock.advance(3_200_000);
    await provider.cleanUp(record, signal);
    expect(signIns()).toBe(1);
    clock.advance(100_000);
    await provider.present(record, signal);
    expect(signIns()).toBe(2);
  });

  it('asks once for a new token when a kept one is refused', async () => {
    const home = standIn.addZone(zone);
    const provider = await openAzure(principal, { clientSecret }, depsOf(clock), at(standIn));
    await provider.zones(signal);
    standIn.revoke();
    await provider.present(record, signal);
    expect([standIn.values(home, name), signIns()]).toEqual([[value], 2]);
    const refusal = { answer: azureError(401, 'InvalidAuthenticationToken', 'no'), on: () => true };
    for (const one of [refusal, { ...refusal, on: (r: { method: string }) => r.method === 'GET' }]) standIn.fail(one);
    expect((await errorOf(provider.zones(signal))).code).toBe('dns_credential_refused');
    expect(signIns()).toBe(3);
  });

  it('uses the identity of the machine, or one that was assigned to it by hand', async () => {
    const home = standIn.addZone(zone);
    await (await openAzure(machine, {}, depsOf(clock), at(standIn))).present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
    await (await openAzure({ ...machine, clientId }, {}, depsOf(clock), at(standIn))).cleanUp(record, signal);
    expect(home.records).toEqual([]);
    const unknown = { ...machine, clientId: subscriptionId };
    const error = await errorOf((await openAzure(unknown, {}, depsOf(clock), at(standIn))).present(record, signal));
    expect([error.code, error.message]).toEqual([
      'dns_credential_refused',
      expect.stringContaining('Identity not found'),
    ]);
  });

  it('waits while the service for identities is updated', async () => {
    standIn.addZone(zone);
    const provider = await openAzure(machine, {}, depsOf(clock), at(standIn));
    standIn.fail({ answer: { status: 410 }, on: () => true });
    const error = await errorOf(provider.present(record, signal));
    expect(error.code).toBe('dns_provider_unreachable');
    expect(error.plan).toEqual({ kind: 'retryable', notBefore: clock.now() + 70_000 });
  });

  it('says in Azure’s words what is wrong with tenant, application, subscription and half a principal', async () => {
    const told = async (settings: Parameters<typeof openAzure>[0]): Promise<[string, string]> => {
      const opened = openAzure(settings, { clientSecret }, depsOf(clock), at(standIn));
      const { code, message } = await errorOf(opened.then((provider) => provider.present(record, signal)));
      return [code, message];
    };
    const refused = 'dns_credential_refused';
    expect(await told({ ...principal, tenantId: 'gone' })).toEqual([
      refused,
      expect.stringContaining('AADSTS90002: Tenant'),
    ]);
    expect(await told({ ...principal, clientId: tenantId })).toEqual([
      refused,
      expect.stringContaining('AADSTS700016'),
    ]);
    expect(await told({ ...machine, clientId })).toEqual([refused, expect.stringContaining('settings.tenantId')]);
    const elsewhere = { ...principal, subscriptionId: tenantId };
    expect(await told(elsewhere)).toEqual(['dns_zone_not_managed', expect.stringContaining('SubscriptionNotFound')]);
  });

  it('needs the right to the zone alone when it is told the group', async () => {
    const home = standIn.addZone(zone);
    standIn.addZone(zone);
    const unsure = await openAzure(principal, { clientSecret }, depsOf(clock), at(standIn));
    const error = await errorOf(unsure.present(record, signal));
    expect([error.code, error.message]).toEqual([
      'dns_zone_not_managed',
      expect.stringContaining('settings.resourceGroup'),
    ]);
    const resourceGroup = `RG-${home.id}`;
    const sure = await openAzure({ ...principal, resourceGroup }, { clientSecret }, depsOf(clock), at(standIn));
    standIn.requests.length = 0;
    await sure.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
    expect(standIn.requests.filter(({ url }) => /dnsZones$/i.test(url.pathname))).toEqual([]);
  });

  it('does not tell the zones of a group that it may not list', async () => {
    const home = standIn.addZone(zone);
    const given = { ...principal, resourceGroup: `rg-${home.id}` };
    const provider = await openAzure(given, { clientSecret }, depsOf(clock), at(standIn));
    const answer = azureError(403, 'AuthorizationFailed', 'The client does not have authorization to perform action');
    const on = ({ url }: { url: URL }): boolean => /dnsZones$/i.test(url.pathname);
    for (let count = 0; count < 2; count += 1) standIn.fail({ answer, on });
    expect(await provider.zones(signal)).toBeNull();
    const elsewhere = { ...record, zone: 'example.org', name: '_acme-challenge.example.org' };
    expect((await errorOf(provider.present(elsewhere, signal))).code).toBe('dns_zone_not_managed');
  });

  it('signs in once when the secret is wrong', async () => {
    const provider = await openAzure(principal, { clientSecret: 'wrong-secret' }, depsOf(clock), at(standIn));
    expect((await errorOf(provider.zones(signal))).message).toContain('AADSTS7000215');
    expect(signIns()).toBe(1);
  });

  it('sends its token nowhere else', async () => {
    standIn.addZone(zone);
    const provider = await openAzure(principal, { clientSecret }, depsOf(clock), at(standIn));
    const body = { value: [], nextLink: 'https://elsewhere.example/subscriptions' };
    standIn.fail({ answer: { status: 200, body }, on: ({ method }) => method === 'GET' });
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, error.message]).toEqual(['dns_provider_refused', expect.stringContaining('on another server')]);
  });
});
