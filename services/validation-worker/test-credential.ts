import { randomBytes } from 'node:crypto';
import { requireDelegation } from '#libs/challenges/dns-solver';
import type { Clock } from '#libs/clock';
import { visibilityProblem } from '#libs/dns/authoritative';
import type { DnsProvider, TxtRecord } from '#libs/dns/dns-provider';
import { CertlineError, type ErrorCode } from '#libs/errors';
import type { CredentialTest } from '#libs/model/validation-checks';
import type { ValidationAnswers } from '#libs/queues/validation-requests';
import type { DnsAccess } from '#libs/service/dns-access';
import type { CleanUp } from '#libs/store/clean-ups';
import type { Store } from '#libs/store/store';
import type { Outlook } from './outlook.ts';
import { createTestSteps, type TestSteps } from './test-steps.ts';

export interface CredentialTestDeps {
  store: Pick<Store, 'credentials' | 'cleanUps'>;
  outlook: Pick<Outlook, 'zones' | 'authoritative'>;
  dns: DnsAccess;
  clock: Clock;
}

/** Milliseconds. All of a test has to be over before its asker stops waiting. */
const limits = { untilSeen: 40_000, look: 20_000, remove: 15_000 };
const betweenLooksMs = 1_000;
/** When the record of a test whose worker died is taken away by the rounds: long after a test that lives is over, ms. */
const abandonedMs = 120_000;
/** With these nothing was written, for certain. */
const refusals = new Set<ErrorCode>(['dns_credential_refused', 'dns_zone_not_managed']);
const wroteNothing = ({ code, evidence }: CertlineError): boolean => refusals.has(code) || evidence?.sent === false;
/** Zones that a step names. */
const named = 5;

function zonesWords(zones: readonly string[] | null): string {
  if (zones === null) return 'the provider does not tell which zones the credential can see';
  const more = zones.length > named ? ` and ${zones.length - named} more` : '';
  return zones.length === 0 ? 'it sees no zone at all' : `it sees ${zones.slice(0, named).join(', ')}${more}`;
}

/** Proves a DNS credential by writing a TXT record and taking it away, also one that is parked. */
export function createCredentialTest(deps: CredentialTestDeps): ValidationAnswers['testCredential'] {
  const { store, outlook, dns, clock } = deps;
  const { zones, authoritative } = outlook;

  async function open(id: string, steps: TestSteps): Promise<DnsProvider | null> {
    const credential = await store.credentials.get(id);
    const parked = credential?.kind === 'dns' ? credential.parked : null;
    const held = parked ? `; its orders are held since it was refused: ${parked.detail}` : '';
    return steps.attempt(
      'credential',
      () => dns.openToTest(id),
      () => `settings and secret can be used${held}`,
    );
  }

  /** What may be listed: with a zone that was given no credential has to be able to. */
  async function list(provider: DnsProvider, asked: string | null, steps: TestSteps): Promise<string[] | null> {
    const listed = (): Promise<string[] | null> => provider.zones(steps.signal);
    if (asked === null) return steps.attempt('zones', listed, zonesWords);
    const unlisted = (thrown: unknown): null => {
      if (!(thrown instanceof CertlineError)) throw thrown;
      steps.note('zones', true, `not listed, and not needed as a zone was given: ${thrown.code}: ${thrown.message}`);
      return null;
    };
    const found = await listed().then((seen) => ({ seen }), unlisted);
    if (found) steps.note('zones', true, zonesWords(found.seen));
    return found?.seen ?? null;
  }

  /** Where the test writes: at a name that no CA asks for, as rights are often limited to `_acme-challenge`. */
  async function place(
    provider: DnsProvider,
    zone: string | null,
    steps: TestSteps,
  ): Promise<Omit<TxtRecord, 'value'> | null> {
    const own = provider.delegatedName?.();
    if (own !== undefined) {
      const find = async () => {
        const asked = `_acme-challenge.${zone}`;
        if (zone !== null) requireDelegation(provider, asked, (await zones.locate(asked, steps.signal)).name);
        return { name: own, zone: (await zones.locate(own, steps.signal)).zone };
      };
      const led = zone === null ? '' : `; _acme-challenge.${zone} leads there`;
      return steps.attempt('zone', find, ({ name }) => `the provider writes at ${name} alone${led}`);
    }
    if (zone === null) {
      steps.note('zone', false, 'give the zone to test in as `zone`: the credential does not tell of any');
      return null;
    }
    const found = await steps.attempt(
      'zone',
      () => zones.findZone(zone, steps.signal),
      (one) => (one === zone ? `${zone} is a zone` : `${zone} lies in the zone ${one}`),
    );
    const label = `certline-test-${randomBytes(6).toString('hex')}`;
    return found === null ? null : { name: `_acme-challenge.${label}.${found}`, zone: found };
  }

  /** Answers how many servers were asked. */
  async function seeEverywhere(record: TxtRecord, signal: AbortSignal): Promise<number> {
    const servers = await authoritative.nameServers(record.zone, signal);
    const until = clock.now() + limits.look;
    for (;;) {
      const sights = await authoritative.showsValue(record, signal, servers);
      const problem = visibilityProblem(record, sights);
      if (problem === null) return sights.length;
      if (clock.now() + betweenLooksMs > until) {
        const words = `${problem.message} This test has looked for ${limits.look / 1000} s; an order looks until the CA's deadline.`;
        throw new CertlineError(problem.code, words);
      }
      await clock.sleep(betweenLooksMs, signal);
    }
  }

  /** Also when the test was given up, and when only perhaps something was written. What cannot be taken away now is left to the rounds. */
  async function takeAway(provider: DnsProvider, one: CleanUp & { kind: 'dns' }, steps: TestSteps): Promise<void> {
    const { zone, record: name, value } = one;
    try {
      await provider.cleanUp({ zone, name, value }, AbortSignal.timeout(limits.remove));
      await store.cleanUps.done(one);
      steps.note('remove', true, provider.delegatedName ? 'the next value takes its place' : `${name} is gone`);
    } catch (thrown) {
      await store.cleanUps.addBefore(one, clock.now());
      steps.fail('remove', thrown, '; it is tried again until it is gone');
    }
  }

  async function writeAndRemove(
    id: string,
    provider: DnsProvider,
    where: Omit<TxtRecord, 'value'>,
    steps: TestSteps,
  ): Promise<void> {
    // As long as the value of a challenge: acme-dns takes no other.
    const record = { ...where, value: randomBytes(32).toString('base64url') };
    const { zone, name, value } = record;
    const at = clock.now();
    const one = { kind: 'dns' as const, order: 'test', at, credential: id, zone, record: name, value };
    await store.cleanUps.addBefore(one, at + abandonedMs);
    let mayBeThere = true;
    try {
      const write = async (): Promise<boolean> => {
        await provider.present(record, steps.signal).catch((thrown: unknown) => {
          mayBeThere = !(thrown instanceof CertlineError && wroteNothing(thrown));
          throw thrown;
        });
        return true;
      };
      if ((await steps.attempt('write', write, () => `a TXT record at ${name}`)) === null) return;
      await steps.attempt(
        'visible',
        () => seeEverywhere(record, steps.signal),
        (count) =>
          count === 1 ? 'the name server of the zone shows it' : `all ${count} addresses of name servers show it`,
      );
    } finally {
      if (mayBeThere) await takeAway(provider, one, steps);
      else await store.cleanUps.done(one);
    }
  }

  return async (id, asked, signal): Promise<CredentialTest> => {
    const steps = createTestSteps(signal, limits.untilSeen);
    const provider = await open(id, steps);
    if (provider === null) return steps.result(null);
    const seen = await list(provider, asked, steps);
    const where = steps.allOk() ? await place(provider, asked ?? seen?.[0] ?? null, steps) : null;
    if (where !== null) await writeAndRemove(id, provider, where, steps);
    return steps.result(seen);
  };
}
