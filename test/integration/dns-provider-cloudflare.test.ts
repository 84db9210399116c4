import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCloudflare } from '#libs/dns/providers/cloudflare';
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
import { cloudflareError, cloudflareToken, startCloudflare } from '../support/dns-stand-ins/cloudflare.ts';
import type { StandIn } from '../support/dns-stand-ins/stand-in.ts';
import { fakeClock } from '../support/fake-clock.ts';

describeProvider({
  name: 'cloudflare',
  start: startCloudflare,
  open: (standIn, deps) => openCloudflare({}, { apiToken: cloudflareToken }, deps, standIn),
  openWrong: (standIn, deps) => openCloudflare({}, { apiToken: 'wrong-secret-0123456789abcdef' }, deps, standIn),
  secrets: [cloudflareToken],
  busy: () => [
    {
      answer: { ...cloudflareError(429, 10429, 'Rate limited. Please wait.'), headers: { 'retry-after': '240' } },
      waitMs: 240_000,
    },
  ],
  forbidden: [cloudflareError(403, 10000, 'Authentication error'), { status: 401, body: 'no' }],
  guardsRemoval: true,
  hasPrivateZones: true,
  shortestTtl: 60,
});

describe('Cloudflare', () => {
  const clock = fakeClock();
  let standIn: StandIn;
  beforeEach(async () => {
    standIn = await startCloudflare();
  });
  afterEach(() => standIn.close());

  it('refuses what is no token with 400, which is a refused credential too', async () => {
    standIn.addZone(zone);
    const provider = await openCloudflare({}, { apiToken: 'wrong secret' }, depsOf(clock), standIn);
    const error = await errorOf(provider.present(record, signal));
    expect(error.code).toBe('dns_credential_refused');
    expect(error.message).toContain('Invalid format for Authorization header (6111)');
  });

  it('needs no list of zones when it is told the ID', async () => {
    const id = '0123456789abcdef0123456789abcdef';
    const home = standIn.addZone(zone, { id });
    standIn.addZone(zone);
    const secret = { apiToken: cloudflareToken };
    const unsure = await openCloudflare({}, secret, depsOf(clock), standIn);
    const error = await errorOf(unsure.present(record, signal));
    expect([error.code, error.message]).toEqual(['dns_zone_not_managed', expect.stringContaining('settings.zoneIds')]);
    standIn.requests.length = 0;
    const sure = await openCloudflare({ zoneIds: { [zone]: id } }, secret, depsOf(clock), standIn);
    await sure.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
    expect(standIn.requests.filter(({ url }) => url.pathname === '/zones')).toEqual([]);
    expect(await sure.zones(signal)).toEqual([zone]);
  });

  it('says another error in the provider’s words', async () => {
    standIn.addZone(zone);
    const provider = await openCloudflare({}, { apiToken: cloudflareToken }, depsOf(clock), standIn);
    standIn.fail({ answer: cloudflareError(400, 81053, 'An A, AAAA, or CNAME record with that host already exists.') });
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, error.plan.kind]).toEqual(['dns_provider_refused', 'permanent']);
    expect(error.message).toContain('with that host already exists. (81053)');
  });
});
