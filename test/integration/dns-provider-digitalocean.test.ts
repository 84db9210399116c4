import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDigitalocean } from '#libs/dns/providers/digitalocean';
import { depsOf, describeProvider, name, record, signal, value, zone } from '../support/dns-stand-ins/behaviours.ts';
import { digitaloceanError, digitaloceanToken, startDigitalocean } from '../support/dns-stand-ins/digitalocean.ts';
import type { StandIn } from '../support/dns-stand-ins/stand-in.ts';
import { fakeClock } from '../support/fake-clock.ts';

const tooMany = digitaloceanError(429, 'too_many_requests', 'API Rate limit exceeded.');

describeProvider({
  name: 'digitalocean',
  start: startDigitalocean,
  open: (standIn, deps) => openDigitalocean({}, { apiToken: digitaloceanToken }, deps, standIn),
  openWrong: (standIn, deps) => openDigitalocean({}, { apiToken: 'wrong-secret' }, deps, standIn),
  secrets: [digitaloceanToken],
  busy: (now) => {
    const reset = { 'ratelimit-reset': String(now / 1000 + 900), 'ratelimit-remaining': '0' };
    return [
      { answer: { ...tooMany, headers: { ...reset, 'retry-after': '55' } }, waitMs: 55_000 },
      { answer: { ...tooMany, headers: reset }, waitMs: 900_000 },
      { answer: tooMany, waitMs: 0 },
    ];
  },
  forbidden: [digitaloceanError(403, 'forbidden', 'You are not authorized to perform this operation')],
  guardsRemoval: true,
  hasPrivateZones: false,
  shortestTtl: 30,
});

describe('DigitalOcean', () => {
  let standIn: StandIn;
  beforeEach(async () => {
    standIn = await startDigitalocean();
  });
  afterEach(() => standIn.close());

  it('may have a value twice, and all of them are taken away', async () => {
    const home = standIn.addZone(zone);
    for (const one of ['a', value, 'b', 'c', value, value]) standIn.add(home, name, one);
    const provider = await openDigitalocean({}, { apiToken: digitaloceanToken }, depsOf(fakeClock()), standIn);
    await provider.cleanUp(record, signal);
    expect(standIn.values(home, name)).toEqual(['a', 'b', 'c']);
  });
});
