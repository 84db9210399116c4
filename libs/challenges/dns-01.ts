import { createHash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { type Authoritative, visibilityProblem } from '../dns/authoritative.ts';
import type { DnsProvider } from '../dns/dns-provider.ts';
import type { ZoneFinder } from '../dns/zone.ts';
import { CertlineError } from '../errors.ts';
import type { Solver } from './solver.ts';

export interface Dns01Options {
  /** Id of the credential that the provider writes with. */
  credential: string;
  provider: DnsProvider;
  zones: ZoneFinder;
  authoritative: Authoritative;
  clock: Clock;
}

/** Between two looks for a record: soon at first, then seldom, ms. */
const leastWaitMs = 5_000;
const longestWaitMs = 60_000;

/** The name whose TXT record a CA reads (RFC 8555 §8.4); a wildcard has that of its parent. */
export function challengeName(name: string): string {
  return `_acme-challenge.${name.replace(/^\*\./, '')}`;
}

/** What the record must hold: the digest of the key authorization (RFC 8555 §8.4). */
export function challengeValue(keyAuthorization: string): string {
  return createHash('sha256').update(keyAuthorization).digest('base64url');
}

/** dns-01: a TXT record, which every name server of its zone must show before the CA is told. */
export function createDns01Solver(options: Dns01Options): Solver<'dns-01'> {
  const { credential, provider, zones, authoritative, clock } = options;

  async function requireDelegation(asked: string, found: string): Promise<void> {
    const wanted = provider.delegatedName?.();
    if (wanted === undefined || wanted === found) return;
    throw new CertlineError('dns_zone_not_managed', `${asked} must be a CNAME to ${wanted}; it leads to ${found}`, {
      evidence: { name: asked, expected: wanted, found },
    });
  }

  return {
    async prepare({ name, token, keyAuthorization, expires }, signal) {
      const asked = challengeName(name);
      const { name: record, zone } = await zones.locate(asked, signal);
      await requireDelegation(asked, record);
      const value = challengeValue(keyAuthorization);
      const since = clock.now();
      return { type: 'dns-01', name, token, keyAuthorization, expires, credential, record, zone, value, since };
    },

    present: ({ zone, record, value }, signal) => provider.present({ zone, name: record, value }, signal),

    async check({ record, zone, value, since }, signal) {
      const question = { name: record, zone, value };
      const problem = visibilityProblem(question, await authoritative.showsValue(question, signal));
      if (problem === null) return;
      const now = clock.now();
      const wait = Math.min(Math.max((now - since) / 2, leastWaitMs), longestWaitMs);
      // Slow servers are nobody's failure: it is looked at again until the CA's deadline.
      throw new CertlineError(problem.code, problem.message, {
        plan: { kind: 'wait', until: Math.round(now + wait) },
        ...(problem.evidence ? { evidence: problem.evidence } : {}),
      });
    },
  };
}
