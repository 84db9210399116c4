import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGodaddy } from '#libs/dns/providers/godaddy';
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
import { godaddyError, godaddyKey, godaddySecret, startGodaddy } from '../support/dns-stand-ins/godaddy.ts';
import type { StandIn } from '../support/dns-stand-ins/stand-in.ts';
import { fakeClock } from '../support/fake-clock.ts';

const settings = { environment: 'ote' as const };
const secret = { apiKey: godaddyKey, apiSecret: godaddySecret };

describeProvider({
  name: 'godaddy',
  start: startGodaddy,
  open: (standIn, deps) => openGodaddy(settings, secret, deps, standIn),
  openWrong: (standIn, deps) => openGodaddy(settings, { ...secret, apiSecret: 'wrong-secret' }, deps, standIn),
  secrets: [godaddySecret],
  busy: () => [
    { answer: godaddyError(429, 'TOO_MANY_REQUESTS', 'Too many requests', { retryAfterSec: 26 }), waitMs: 26_000 },
  ],
  forbidden: [godaddyError(403, 'ACCESS_DENIED', 'Authenticated user is not allowed access')],
  // there is no removal of one value, and no condition for writing the rest back
  guardsRemoval: false,
  hasPrivateZones: false,
  shortestTtl: 600,
});

describe('GoDaddy', () => {
  const clock = fakeClock();
  let standIn: StandIn;
  beforeEach(async () => {
    standIn = await startGodaddy();
  });
  afterEach(() => standIn.close());

  it('is told to be closed to small accounts when it denies access', async () => {
    standIn.addZone(zone);
    const provider = await openGodaddy(settings, secret, depsOf(clock), standIn);
    const answer = godaddyError(403, 'ACCESS_DENIED', 'Authenticated user is not allowed access');
    standIn.fail({ answer, on: () => true });
    const error = await errorOf(provider.present(record, signal));
    expect(error.message).toContain('Authenticated user is not allowed access');
    expect(error.message).toContain('only to accounts with 10 domains or more');
  });

  it('writes back the rest with its own TTL when one value goes', async () => {
    const home = standIn.addZone(zone);
    standIn.add(home, name, 'theirs', 7200);
    standIn.add(home, name, value, 600);
    await (await openGodaddy(settings, secret, depsOf(clock), standIn)).cleanUp(record, signal);
    expect(home.records.map(({ value, ttl }) => [value, ttl])).toEqual([['theirs', 7200]]);
  });

  it('loses nothing when two orders of this process remove and add at once', async () => {
    const home = standIn.addZone(zone);
    for (const one of ['a', 'b', 'c']) standIn.add(home, name, one, 600);
    const open = () => openGodaddy(settings, secret, depsOf(clock), standIn);
    const [first, second] = [await open(), await open()];
    await Promise.all([
      first.cleanUp({ ...record, value: 'a' }, signal),
      second.present(record, signal),
      first.cleanUp({ ...record, value: 'b' }, signal),
    ]);
    expect(standIn.values(home, name)).toEqual(['c', value]);
  });

  it('goes on with a name after an error of it', async () => {
    const home = standIn.addZone(zone);
    const provider = await openGodaddy(settings, secret, depsOf(clock), standIn);
    standIn.fail({ answer: { status: 503 } });
    const [failed, done] = await Promise.allSettled([
      provider.present(record, signal),
      provider.present(record, signal),
    ]);
    expect([failed.status, done.status, standIn.values(home, name)]).toEqual(['rejected', 'fulfilled', [value]]);
  });
});
