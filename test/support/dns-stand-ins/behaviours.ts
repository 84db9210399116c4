/** What every provider must show, whatever its API is like. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DnsProvider, ProviderDeps } from '#libs/dns/dns-provider';
import { CertlineError } from '#libs/errors';
import { type FakeClock, fakeClock } from '../fake-clock.ts';
import type { Fault, StandIn, StandInAnswer } from './stand-in.ts';

export interface ProviderUnderTest {
  name: string;
  start(clock: FakeClock): Promise<StandIn>;
  open(standIn: StandIn, deps: ProviderDeps): Promise<DnsProvider>;
  /** With a secret that the API does not know. */
  openWrong(standIn: StandIn, deps: ProviderDeps): Promise<DnsProvider>;
  /** What must not be in an error. */
  secrets: readonly string[];
  /** How it says "too many requests", and how long to wait by that, in ms. */
  busy(now: number): { answer: StandInAnswer; waitMs: number }[];
  /** Answers that mean a missing right. */
  forbidden: readonly StandInAnswer[];
  /** Whether a removal loses nothing of what others add meanwhile. */
  guardsRemoval: boolean;
  /** Whether the API has private zones. */
  hasPrivateZones: boolean;
  /** The fewest seconds of a TTL; null when the provider has no minimum. */
  shortestTtl: number | null;
}

export const signal = new AbortController().signal;
export const zone = 'example.com';
export const name = '_acme-challenge.www.example.com';
export const value = 'gfj9Xq_Rg85nM-DdLkQp3aJt0FZpGmYz3qHkzuT0Wxo';
export const record = { zone, name, value };

export const depsOf = (clock: FakeClock): ProviderDeps => ({
  ...{ clock, ttlSeconds: 5, allowPrivate: false, allowPrograms: false },
});

/** The error that the work ends with. */
export async function errorOf(work: Promise<unknown>): Promise<CertlineError> {
  const thrown = await work.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(thrown instanceof CertlineError)) throw new Error(`no CertlineError: ${thrown}`, { cause: thrown });
  return thrown;
}

export function describeProvider(tested: ProviderUnderTest): void {
  describe(`The provider ${tested.name}`, () => {
    let clock: FakeClock;
    let standIn: StandIn;
    let provider: DnsProvider;
    beforeEach(async () => {
      clock = fakeClock();
      standIn = await tested.start(clock);
      provider = await tested.open(standIn, depsOf(clock));
    });
    afterEach(() => standIn.close());

    it('adds a value beside those of others and takes only its own away', async () => {
      const home = standIn.addZone(zone);
      standIn.add(home, name, 'of-another-order');
      standIn.add(home, 'www.example.com', 'not of the challenge');
      await provider.present(record, signal);
      expect(standIn.values(home, name)).toEqual([value, 'of-another-order'].sort());
      await provider.cleanUp(record, signal);
      expect(standIn.values(home, name)).toEqual(['of-another-order']);
      expect(standIn.values(home, 'www.example.com')).toEqual(['not of the challenge']);
    });

    it('does everything twice, and leaves nothing behind', async () => {
      const home = standIn.addZone(zone);
      await provider.present(record, signal);
      await provider.present(record, signal);
      expect(standIn.values(home, name)).toEqual([value]);
      await provider.cleanUp(record, signal);
      await provider.cleanUp(record, signal);
      expect(home.records).toEqual([]);
    });

    it('writes the two values of a wildcard and its apex, at the zone’s own name too', async () => {
      const home = standIn.addZone(zone);
      const both = [
        { zone, name: zone, value: 'first' },
        { zone, name: zone, value: 'second' },
      ];
      for (const one of both) await provider.present(one, signal);
      expect(standIn.values(home, zone)).toEqual(['first', 'second']);
      for (const one of both) await provider.cleanUp(one, signal);
      expect(home.records).toEqual([]);
    });

    it('writes into the zone that it is given, not into one above or below it', async () => {
      const above = standIn.addZone(zone);
      const other = standIn.addZone('notexample.com');
      const below = standIn.addZone(`sub.${zone}`);
      const inner = { zone: `sub.${zone}`, name: `_acme-challenge.sub.${zone}`, value };
      await provider.present(inner, signal);
      expect(standIn.values(below, inner.name)).toEqual([value]);
      await provider.present({ ...inner, zone }, signal);
      expect(standIn.values(above, inner.name)).toEqual([value]);
      await provider.cleanUp(inner, signal);
      expect([above.records.length, below.records.length, other.records.length]).toEqual([1, 0, 0]);
    });

    it('finds a zone on a later page, and tells all of them', async () => {
      const names = Array.from({ length: 7 }, (_, at) => `a${at}.example.net`);
      for (const one of names) standIn.addZone(one);
      const home = standIn.addZone(zone);
      await provider.present(record, signal);
      expect(standIn.values(home, name)).toEqual([value]);
      expect((await provider.zones(signal))?.toSorted()).toEqual([...names, zone].sort());
    });

    it('finds its value on a later page of records', async () => {
      const home = standIn.addZone(zone);
      for (let at = 0; at < 7; at += 1) standIn.add(home, name, `other-${at}`);
      await provider.present(record, signal);
      await provider.present(record, signal);
      expect(standIn.values(home, name).filter((one) => one === value)).toHaveLength(1);
      await provider.cleanUp(record, signal);
      expect(standIn.values(home, name)).toHaveLength(7);
    });

    it('says which zones it sees when the zone is not among them', async () => {
      standIn.addZone('example.net');
      standIn.addZone(`sub.${zone}`);
      for (const work of [provider.present, provider.cleanUp]) {
        const error = await errorOf(work(record, signal));
        expect(error.code).toBe('dns_zone_not_managed');
        expect(error.message).toContain('example.net');
      }
    });

    if (tested.hasPrivateZones)
      it('leaves a private zone of the same name alone', async () => {
        const hidden = standIn.addZone(zone, { isPrivate: true });
        expect((await errorOf(provider.present(record, signal))).code).toBe('dns_zone_not_managed');
        const home = standIn.addZone(zone);
        await provider.present(record, signal);
        expect([hidden.records.length, home.records.length]).toEqual([0, 1]);
      });

    it('waits as the provider says when there are too many requests', async () => {
      const home = standIn.addZone(zone);
      for (const { answer, waitMs } of tested.busy(clock.now())) {
        standIn.fail({ answer });
        const error = await errorOf(provider.present(record, signal));
        expect(error.code).toBe('dns_provider_busy');
        if (waitMs > 0) expect(error.plan).toEqual({ kind: 'retryable', notBefore: clock.now() + waitMs });
        else expect(error.plan).toEqual({ kind: 'retryable' });
      }
      expect(home.records).toEqual([]);
      await provider.present(record, signal);
      expect(standIn.values(home, name)).toEqual([value]);
    });

    it('parks on a secret that the API does not know, and tells nobody the secret', async () => {
      standIn.addZone(zone);
      const wrong = await tested.openWrong(standIn, depsOf(clock));
      const error = await errorOf(wrong.present(record, signal));
      expect([error.code, error.plan.kind]).toEqual(['dns_credential_refused', 'park']);
      const told = JSON.stringify([error.message, error.evidence, String(error.stack)]);
      for (const one of [...tested.secrets, 'wrong-secret']) expect(told).not.toContain(one);
      expect((await errorOf(wrong.zones(signal))).code).toBe('dns_credential_refused');
    });

    it('parks on a missing right', async () => {
      const home = standIn.addZone(zone);
      for (const answer of tested.forbidden) {
        standIn.fail({ answer });
        const error = await errorOf(provider.present(record, signal));
        expect([error.code, error.plan.kind]).toEqual(['dns_credential_refused', 'park']);
      }
      expect(home.records).toEqual([]);
    });

    it('is fine after a 500, also when the change was done all the same', async () => {
      const home = standIn.addZone(zone);
      const broken: Fault = { answer: { status: 500, body: 'oops' } };
      for (const fault of [broken, { ...broken, done: true }]) {
        standIn.fail(fault);
        const error = await errorOf(provider.present(record, signal));
        expect([error.code, error.plan.kind]).toEqual(['dns_provider_unreachable', 'retryable']);
      }
      await provider.present(record, signal);
      expect(standIn.values(home, name)).toEqual([value]);
      standIn.fail({ ...broken, done: true });
      expect((await errorOf(provider.cleanUp(record, signal))).code).toBe('dns_provider_unreachable');
      await provider.cleanUp(record, signal);
      expect(home.records).toEqual([]);
    });

    it('takes an answer that is not of the API for a passing trouble', async () => {
      standIn.addZone(zone);
      standIn.fail({
        on: ({ method }) => method === 'GET',
        answer: { status: 200, body: '<html>Please log in</html>' },
      });
      const error = await errorOf(provider.present(record, signal));
      expect([error.code, error.plan.kind]).toEqual(['dns_provider_unreachable', 'retryable']);
    });

    it('loses nothing that others add while it adds', async () => {
      const home = standIn.addZone(zone);
      for (const before of [[], ['there-already']]) {
        home.records.length = 0;
        for (const one of before) standIn.add(home, name, one);
        standIn.beforeWrite(() => standIn.add(home, name, 'added-meanwhile'));
        await provider.present(record, signal);
        expect(standIn.values(home, name)).toEqual([value, ...before, 'added-meanwhile'].sort());
      }
    });

    if (tested.guardsRemoval)
      it('loses nothing that others add while it removes', async () => {
        const home = standIn.addZone(zone);
        for (const before of [[], ['there-already']]) {
          home.records.length = 0;
          for (const one of [value, ...before]) standIn.add(home, name, one);
          standIn.beforeWrite(() => standIn.add(home, name, 'added-meanwhile'));
          await provider.cleanUp(record, signal);
          expect(standIn.values(home, name)).toEqual([...before, 'added-meanwhile'].sort());
        }
      });

    it('does not mind that somebody else did the same meanwhile', async () => {
      const home = standIn.addZone(zone);
      standIn.beforeWrite(() => standIn.add(home, name, value));
      await provider.present(record, signal);
      expect(new Set(standIn.values(home, name))).toEqual(new Set([value]));
      standIn.beforeWrite(() => home.records.splice(0));
      await provider.cleanUp(record, signal);
      expect(home.records).toEqual([]);
    });

    it('writes what several ask for at once', async () => {
      const home = standIn.addZone(zone);
      const all = ['one', 'two', 'three'].map((one) => ({ zone, name, value: one }));
      await Promise.all(all.map((one) => provider.present(one, signal)));
      expect(standIn.values(home, name)).toEqual(['one', 'three', 'two']);
      await Promise.all(all.map((one) => provider.cleanUp(one, signal)));
      expect(home.records).toEqual([]);
    });

    it('bears reads that are behind its writes', async () => {
      const home = standIn.addZone(zone);
      standIn.add(home, name, 'of-another-order');
      standIn.lag(1);
      await provider.present(record, signal);
      await provider.present(record, signal);
      expect(new Set(standIn.values(home, name))).toEqual(new Set([value, 'of-another-order']));
      standIn.lag(0);
      await provider.cleanUp(record, signal);
      standIn.add(home, name, value);
      standIn.lag(1);
      await provider.cleanUp(record, signal);
      await provider.cleanUp(record, signal);
      expect(standIn.values(home, name)).toEqual(['of-another-order']);
    });

    it('asks for the shortest TTL that the provider allows', async () => {
      const home = standIn.addZone(zone);
      await provider.present(record, signal);
      expect(home.records.map(({ ttl }) => ttl)).toEqual([Math.max(5, tested.shortestTtl ?? 0)]);
    });

    it('stops when it is told to', async () => {
      standIn.addZone(zone);
      const reason = new Error('enough');
      await expect(provider.present(record, AbortSignal.abort(reason))).rejects.toBe(reason);
    });
  });
}
