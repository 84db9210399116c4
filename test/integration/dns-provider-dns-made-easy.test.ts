import { describe, expect, it } from 'vitest';
import { openDnsMadeEasy } from '#libs/dns/providers/dns-made-easy';
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
import { dnsMadeEasyError, dnsMadeEasyKeys, startDnsMadeEasy } from '../support/dns-stand-ins/dns-made-easy.ts';
import { fakeClock } from '../support/fake-clock.ts';

const settings = { environment: 'production' as const };
const spent = { 'x-dnsme-requestsRemaining': '0', 'x-dnsme-requestLimit': '150' };

describeProvider({
  name: 'dns-made-easy',
  start: (clock) => startDnsMadeEasy(clock),
  open: (standIn, deps) => openDnsMadeEasy(settings, dnsMadeEasyKeys, deps, standIn),
  openWrong: (standIn, deps) =>
    openDnsMadeEasy(settings, { ...dnsMadeEasyKeys, secretKey: 'wrong-secret' }, deps, standIn),
  secrets: [dnsMadeEasyKeys.secretKey],
  busy: () => [
    { answer: { ...dnsMadeEasyError(400, 'Rate limit exceeded'), headers: spent }, waitMs: 60_000 },
    { answer: dnsMadeEasyError(400, 'Rate limit exceeded'), waitMs: 60_000 },
  ],
  forbidden: [{ status: 403, body: '<html>Forbidden</html>' }],
  guardsRemoval: true,
  hasPrivateZones: false,
  shortestTtl: 30,
});

describe('DNS Made Easy', () => {
  it('is read to the end whether its first page is 0 or 1', async () => {
    const clock = fakeClock();
    const standIn = await startDnsMadeEasy(clock, 1);
    const home = standIn.addZone(zone);
    const names = Array.from({ length: 7 }, (_, at) => standIn.addZone(`a${at}.example.net`).name);
    for (const one of ['a', 'b', 'c', 'd', 'e', 'f', value]) standIn.add(home, name, one);
    const provider = await openDnsMadeEasy(settings, dnsMadeEasyKeys, depsOf(clock), standIn);
    expect(await provider.zones(signal)).toEqual([zone, ...names]);
    await provider.cleanUp(record, signal);
    await standIn.close();
    expect(standIn.values(home, name)).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('is told to look at the clock when it refuses a signature', async () => {
    const standIn = await startDnsMadeEasy(fakeClock());
    standIn.addZone(zone);
    const late = fakeClock(Date.UTC(2026, 0, 1, 0, 1));
    const provider = await openDnsMadeEasy(settings, dnsMadeEasyKeys, depsOf(late), standIn);
    const error = await errorOf(provider.present(record, signal));
    await standIn.close();
    expect([error.code, error.message]).toEqual([
      'dns_credential_refused',
      expect.stringContaining('the clock of this machine'),
    ]);
  });
});
