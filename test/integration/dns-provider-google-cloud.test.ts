import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { googleCloud, openGoogleCloud } from '#libs/dns/providers/google-cloud';
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
import {
  foreignAccount,
  type GoogleStandIn,
  googleError,
  serviceAccount,
  startGoogleCloud,
} from '../support/dns-stand-ins/google-cloud.ts';
import type { StandIn } from '../support/dns-stand-ins/stand-in.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';

const at = ({ baseUrl }: StandIn) => ({ baseUrl, tokenUrl: `${baseUrl}token` });

describeProvider({
  name: 'google-cloud',
  start: startGoogleCloud,
  open: (standIn, deps) => openGoogleCloud({}, { serviceAccount }, deps, at(standIn)),
  openWrong: (standIn, deps) => openGoogleCloud({}, { serviceAccount: foreignAccount }, deps, at(standIn)),
  secrets: ['PRIVATE KEY', 'ya29.1'],
  busy: () => [
    { answer: googleError(403, 'rateLimitExceeded', 'Rate Limit Exceeded'), waitMs: 0 },
    { answer: googleError(403, 'quotaExceeded', 'Quota exceeded'), waitMs: 0 },
    { answer: { ...googleError(429, 'rateLimitExceeded', 'wait'), headers: { 'retry-after': '30' } }, waitMs: 30_000 },
  ],
  forbidden: [
    googleError(403, 'forbidden', 'Forbidden'),
    googleError(403, 'accessNotConfigured', 'The API is not enabled'),
  ],
  guardsRemoval: true,
  hasPrivateZones: true,
  shortestTtl: null,
});

describe('Google Cloud DNS', () => {
  let clock: FakeClock;
  let standIn: GoogleStandIn;
  beforeEach(async () => {
    clock = fakeClock();
    standIn = await startGoogleCloud(clock);
  });
  afterEach(() => standIn.close());

  it('keeps the TTL of a record set that others made', async () => {
    const home = standIn.addZone(zone);
    standIn.add(home, name, 'theirs', 3600);
    const provider = await openGoogleCloud({}, { serviceAccount }, depsOf(clock), at(standIn));
    await provider.present(record, signal);
    expect(home.records.map(({ ttl }) => ttl)).toEqual([3600, 3600]);
  });

  it('asks once for a new token when a kept one is refused', async () => {
    const home = standIn.addZone(zone);
    const provider = await openGoogleCloud({}, { serviceAccount }, depsOf(clock), at(standIn));
    await provider.zones(signal);
    standIn.revoke();
    await provider.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
    expect(standIn.requests.filter(({ url }) => url.pathname === '/token')).toHaveLength(2);
  });

  it('asks which of two public zones of one name it is', async () => {
    standIn.addZone(zone);
    const home = standIn.addZone(zone);
    const provider = await openGoogleCloud({}, { serviceAccount }, depsOf(clock), at(standIn));
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, error.message]).toEqual([
      'dns_zone_not_managed',
      expect.stringContaining('settings.managedZones'),
    ]);
    const managedZones = { [zone]: `zone-${home.id.toLowerCase()}` };
    const sure = await openGoogleCloud({ managedZones }, { serviceAccount }, depsOf(clock), at(standIn));
    await sure.present(record, signal);
    expect(standIn.values(home, name)).toEqual([value]);
  });

  it('uses another project than the account’s when it is told one', async () => {
    const provider = await openGoogleCloud(
      { project: 'their-project' },
      { serviceAccount },
      depsOf(clock),
      at(standIn),
    );
    const error = await errorOf(provider.present(record, signal));
    expect([error.code, error.message]).toEqual(['dns_credential_refused', expect.stringContaining('their-project')]);
  });

  it('takes the key file as it is, and none that leads elsewhere or has no key', () => {
    const check = (account: object): string[] =>
      googleCloud.secret
        .safeParse({ serviceAccount: account })
        .error?.issues.map(({ path, message }) => `${path.join('.')} ${message}`) ?? [];
    expect(check(serviceAccount)).toEqual([]);
    expect(check({ ...serviceAccount, token_uri: 'https://elsewhere.example/token' })).toEqual([
      'serviceAccount.token_uri is not the token address of Google',
    ]);
    expect(check({ ...serviceAccount, private_key: 'not a key' })).toEqual([
      'serviceAccount.private_key is not an RSA private key in PEM form',
    ]);
    expect(check({ ...serviceAccount, type: 'authorized_user' })[0]).toContain(
      'serviceAccount.type is not service_account',
    );
  });
});
