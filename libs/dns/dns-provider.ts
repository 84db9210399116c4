import type { z } from 'zod';
import type { Clock } from '../clock.ts';

/** One value of a TXT record. Names are absolute, lower case, A-labels, without the final dot. */
export interface TxtRecord {
  /** The zone that the name lies in, as its SOA says. */
  zone: string;
  /** Name of the record: the zone's own or below it. */
  name: string;
  value: string;
}

/**
 * What writes TXT records. A name can have several values at a time: those of other orders, of a wildcard beside its apex, of other tools.
 * They are left alone. Everything may run twice. Throws `CertlineError`: `dns_credential_refused`, `dns_zone_not_managed`,
 * `dns_provider_busy`, `dns_provider_unreachable`, `dns_provider_refused`.
 */
export interface DnsProvider {
  /** Adds the value beside those that are there; it may take a while until name servers show it. */
  present(record: TxtRecord, signal: AbortSignal): Promise<void>;
  /** Takes that one value away; fine when it is not there. */
  cleanUp(record: TxtRecord, signal: AbortSignal): Promise<void>;
  /** The zones that the credential can see, for a person; null where a provider does not tell. */
  zones(signal: AbortSignal): Promise<string[] | null>;
  /**
   * Where a provider has its records at a place of its own (acme-dns), the name that the CNAME of a challenge must lead to; null elsewhere.
   * Absent means null.
   */
  delegatedName?(): string;
}

export interface ProviderDeps {
  clock: Clock;
  /** TTL of new records, in seconds. */
  ttlSeconds: number;
  /** Whether API addresses of the private network may be used (own servers: PowerDNS, acme-dns, webhook). */
  allowPrivate: boolean;
  /** Whether programs may be run (`exec`). */
  allowPrograms: boolean;
}

/** A kind of provider: one file in `providers/`, and its place in the list of `providers.ts`. */
export interface ProviderDefinition<Settings, Secret> {
  /** Name in the API: `cloudflare`. */
  name: string;
  /** What a person is told of it. */
  title: string;
  /** The least that a credential needs at the provider, for the table of the README; from the provider's documentation. */
  rights: string;
  /** What may be shown of a credential: addresses, ids, regions. */
  settings: z.ZodType<Settings>;
  /** What is sealed. */
  secret: z.ZodType<Secret>;
  /** Opens no connection. May load its SDK, which is not loaded before. */
  open(settings: Settings, secret: Secret, deps: ProviderDeps): Promise<DnsProvider>;
}

/** With its types tied together. */
export function defineProvider<Settings, Secret>(
  definition: ProviderDefinition<Settings, Secret>,
): ProviderDefinition<Settings, Secret> {
  return definition;
}
