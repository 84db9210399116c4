import { createDns01Solver } from '#libs/challenges/dns-01';
import { createHttp01Solver } from '#libs/challenges/http-01';
import type { Solver } from '#libs/challenges/solver';
import { createLookup, createWebReader } from '#libs/challenges/web-reader';
import type { Clock } from '#libs/clock';
import type { Config } from '#libs/config';
import { createAuthoritative } from '#libs/dns/authoritative';
import { createExchange } from '#libs/dns/exchange';
import { createResolver } from '#libs/dns/resolver';
import { resolverServers } from '#libs/dns/servers';
import { createZoneFinder } from '#libs/dns/zone';
import type { ChallengeMethod } from '#libs/model/challenge-method';
import type { DnsAccess } from '#libs/service/dns-access';

/** What meets the challenges of each method. */
export function createSolvers(
  config: Config<'validation'>,
  dns: DnsAccess,
  clock: Clock,
): (method: ChallengeMethod) => Promise<Solver> {
  const http01 = createHttp01Solver({
    read: createWebReader(createLookup(config.DNS_RESOLVERS), [80, 443, config.HTTP01_PORT]),
    port: config.HTTP01_PORT,
    selfCheck: config.HTTP01_SELF_CHECK,
  });
  const exchange = createExchange();
  const resolver = createResolver({ servers: resolverServers(config.DNS_RESOLVERS), exchange });
  const zones = createZoneFinder({ resolver });
  const authoritative = createAuthoritative({ resolver, exchange, portOf: () => config.DNS01_PORT });
  return async (method) => {
    if (method.type === 'http-01') return http01 as Solver;
    const { credential } = method;
    const provider = await dns.open(credential);
    return createDns01Solver({ credential, provider, zones, authoritative, clock }) as Solver;
  };
}
