import { createDnsSolver } from '#libs/challenges/dns-solver';
import type { Solver } from '#libs/challenges/solver';
import type { Clock } from '#libs/clock';
import type { DnsMethod } from '#libs/model/challenge-method';
import type { DnsAccess } from '#libs/service/dns-access';
import type { Outlook } from './outlook.ts';

export interface DnsSolversDeps {
  outlook: Pick<Outlook, 'zones' | 'authoritative'>;
  dns: DnsAccess;
  clock: Clock;
}

/** What meets the challenges in DNS, by who writes the record. */
export function createDnsSolvers({ outlook: { zones, authoritative }, dns, clock }: DnsSolversDeps) {
  return async (method: DnsMethod): Promise<Solver> => {
    const writer =
      'credential' in method ? { credential: method.credential, open: () => dns.open(method.credential) } : null;
    return createDnsSolver({ type: method.type, writer, zones, authoritative, clock }) as Solver;
  };
}
