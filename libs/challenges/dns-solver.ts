import type { Clock } from '../clock.ts';
import { type Authoritative, visibilityProblem } from '../dns/authoritative.ts';
import type { DnsProvider } from '../dns/dns-provider.ts';
import type { ZoneFinder } from '../dns/zone.ts';
import { CertlineError } from '../errors.ts';
import type { DnsChallengeType } from '../model/challenge-method.ts';
import type { PresentedDns } from '../model/order.ts';
import { challengeRecord } from './dns-records.ts';
import { doesFor } from './persist-record.ts';
import { recordAwaited } from './record-awaited.ts';
import type { Solver } from './solver.ts';

export interface DnsSolverOptions {
  type: DnsChallengeType;
  /** What writes the record: opened when it is needed, by the id of its credential. Null where a person makes the record. */
  writer: { credential: string; open(): Promise<DnsProvider> } | null;
  zones: ZoneFinder;
  authoritative: Authoritative;
  clock: Clock;
}

/** Between two looks for a record that was written: soon at first, then seldom, ms. */
const leastWaitMs = 5_000;
const longestWaitMs = 60_000;

/** Throws `dns_zone_not_managed` when a provider has its records at a place of its own, and a name does not lead there. */
export function requireDelegation({ delegatedName }: DnsProvider, asked: string, found: string): void {
  const wanted = delegatedName?.();
  if (wanted === undefined || wanted === found) return;
  throw new CertlineError('dns_zone_not_managed', `${asked} must be a CNAME to ${wanted}; it leads to ${found}`, {
    evidence: { name: asked, expected: wanted, found },
  });
}

/** That a zone is not to be changed is no news to whoever has forgotten that a CNAME leads into it. */
function withWayThere({ name, record }: PresentedDns, thrown: unknown): unknown {
  if (!(thrown instanceof CertlineError) || thrown.code !== 'dns_zone_not_managed') return thrown;
  const { code, message, plan, evidence } = thrown;
  if (record.endsWith(`.${name.replace(/^\*\./, '')}`)) return thrown;
  const words = `${message}; ${record} is where a CNAME at the challenge name of ${name} leads`;
  return new CertlineError(code, words, { plan, ...(evidence ? { evidence } : {}), cause: thrown });
}

/**
 * A TXT record, which every name server of its zone must show before the CA is told. That of dns-persist-01 is for all orders to come: it stays,
 * and where one is that does, nothing is written.
 */
export function createDnsSolver({ type, writer, zones, authoritative, clock }: DnsSolverOptions): Solver<PresentedDns> {
  const stays = type === 'dns-persist-01';

  /** What keeps the record from being seen everywhere; null when all servers show it. */
  async function problemOf({ record: name, zone, value }: PresentedDns, signal: AbortSignal) {
    const now = clock.now();
    const question = { name, zone, value, ...(stays ? { fits: (text: string) => doesFor(value, text, now) } : {}) };
    return visibilityProblem(question, await authoritative.showsValue(question, signal));
  }

  return {
    async prepare(challenge, signal) {
      const { name: asked, value } = challengeRecord(type, challenge);
      const { name: record, zone } = await zones.locate(asked, signal);
      if (writer && !stays) requireDelegation(await writer.open(), asked, record);
      const { name, expires } = challenge;
      return {
        ...{ type, name, expires, credential: writer?.credential ?? null },
        ...{ record, zone, value, since: clock.now() },
      };
    },

    async present(presented, signal) {
      if (!writer || (stays && (await problemOf(presented, signal)) === null)) return;
      const provider = await writer.open();
      // They have only the values written last.
      if (stays && provider.delegatedName) {
        const what = `${writer.credential} is for a provider that keeps no value for long`;
        throw new CertlineError('challenge_unsupported', `${what}: ${type} for ${presented.name} needs another one`);
      }
      const { zone, record: name, value } = presented;
      await provider.present({ zone, name, value }, signal).catch((thrown: unknown) => {
        throw withWayThere(presented, thrown);
      });
    },

    async check(presented, signal) {
      const problem = await problemOf(presented, signal);
      if (problem === null) return;
      const now = clock.now();
      if (!writer) throw recordAwaited(presented, problem, now);
      const wait = Math.min(Math.max((now - presented.since) / 2, leastWaitMs), longestWaitMs);
      // Slow servers are nobody's failure: it is looked at again until the CA's deadline.
      throw new CertlineError(problem.code, problem.message, {
        plan: { kind: 'wait', until: Math.round(now + wait) },
        ...(problem.evidence ? { evidence: problem.evidence } : {}),
      });
    },
  };
}
