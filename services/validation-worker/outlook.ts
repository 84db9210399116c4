import { createLookup, createWebReader, type WebReader } from '#libs/challenges/web-reader';
import type { Config } from '#libs/config';
import { type Authoritative, createAuthoritative } from '#libs/dns/authoritative';
import { createExchange } from '#libs/dns/exchange';
import { createResolver, type Resolver } from '#libs/dns/resolver';
import { resolverServers } from '#libs/dns/servers';
import { createZoneFinder, type ZoneFinder } from '#libs/dns/zone';

/** DNS and the web as a validation worker sees them. */
export interface Outlook {
  resolver: Resolver;
  zones: ZoneFinder;
  authoritative: Authoritative;
  /** Reads an http-01 answer as a CA would. */
  read: WebReader;
}

export function createOutlook(config: Config<'validation'>): Outlook {
  const exchange = createExchange();
  const resolver = createResolver({ servers: resolverServers(config.DNS_RESOLVERS), exchange });
  return {
    resolver,
    zones: createZoneFinder({ resolver }),
    authoritative: createAuthoritative({ resolver, exchange, portOf: () => config.DNS01_PORT }),
    read: createWebReader(createLookup(config.DNS_RESOLVERS), [80, 443, config.HTTP01_PORT]),
  };
}
