import { CertlineError } from '../errors.ts';
import type { Exchange } from './exchange.ts';
import { type DnsAnswer, dataOf } from './message.ts';
import type { Resolver } from './resolver.ts';

/** A name server of a zone. */
export interface NameServer {
  name: string;
  /** IPv4 and IPv6; empty when its name leads nowhere. */
  addresses: string[];
  /** The parent zone delegates to it. */
  delegated: boolean;
  /** The zone itself names it. */
  listed: boolean;
}

export interface NameServerDeps {
  resolver: Resolver;
  exchange: Exchange;
  /** Port of the server at an address: 53, but in a lab. */
  portOf?: (address: string) => number;
}

/** More than any zone has; a zone that names hundreds is not to make us ask hundreds. */
const mostServers = 16;
const mostAddresses = 4;

const parentOf = (name: string): string => (name.includes('.') ? name.slice(name.indexOf('.') + 1) : '.');

async function addressesOf(resolver: Resolver, name: string, signal: AbortSignal): Promise<string[]> {
  const found = await Promise.allSettled([resolver.lookup(name, 'A', signal), resolver.lookup(name, 'AAAA', signal)]);
  signal.throwIfAborted();
  return found.flatMap((one) => (one.status === 'fulfilled' ? one.value.records.slice(0, mostAddresses) : []));
}

/** What a parent's server says about a delegation: the names, and the addresses that it gives along (glue). */
function delegationIn(answer: DnsAnswer, zone: string): { names: string[]; glue: Map<string, string[]> } | null {
  // A referral has them in the authority section; a server that has the child too answers with the child's own.
  const names = [...dataOf(answer.authorities, 'NS', zone), ...dataOf(answer.answers, 'NS', zone)];
  if (answer.rcode !== 'NOERROR' || names.length === 0) return null;
  const glue = new Map(
    names.map((name) => [
      name,
      [...dataOf(answer.additionals, 'A', name), ...dataOf(answer.additionals, 'AAAA', name)],
    ]),
  );
  return { names, glue };
}

/** Asks the servers of the parent zone, one after another until one answers. Null when none does, or there is no parent to ask. */
async function delegationOf(deps: NameServerDeps, zone: string, signal: AbortSignal) {
  const { resolver, exchange, portOf = () => 53 } = deps;
  const parent = await parentZone(resolver, zone, signal);
  const names = parent === null ? [] : (await resolver.lookup(parent, 'NS', signal)).records;
  for (const name of names.slice(0, mostServers)) {
    for (const address of await addressesOf(resolver, name, signal)) {
      const question = { name: zone, type: 'NS' as const, recursive: false };
      const reply = await exchange({ address, port: portOf(address) }, question, signal);
      const found = 'answer' in reply ? delegationIn(reply.answer, zone) : null;
      if (found) return found;
    }
  }
  return null;
}

/** The zone above a zone. Registries' zones and the root are as good as any here. */
async function parentZone(resolver: Resolver, zone: string, signal: AbortSignal): Promise<string | null> {
  if (zone === '.') return null;
  for (let at = parentOf(zone); ; at = parentOf(at)) {
    const { soa } = await resolver.lookup(at, 'SOA', signal);
    if (soa && (soa.zone === '.' || at === soa.zone || at.endsWith(`.${soa.zone}`))) return soa.zone;
    if (at === '.') return null;
  }
}

/**
 * The name servers of a zone: those that the parent delegates to and those that the zone names itself, since resolvers ask both.
 * Throws as `Resolver.lookup`, and `dns_delegation_lame` when there are none with an address.
 */
export async function findNameServers(deps: NameServerDeps, zone: string, signal: AbortSignal): Promise<NameServer[]> {
  // A parent that cannot be asked is no reason to stop: what the zone says of itself is left.
  const delegation = await delegationOf(deps, zone, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    if (error instanceof CertlineError) return null;
    throw error;
  });
  const own = await deps.resolver.lookup(zone, 'NS', signal).catch((error: unknown) => {
    signal.throwIfAborted();
    if (delegation && error instanceof CertlineError && error.code === 'dns_lookup_failed') return null;
    throw error;
  });
  const listed = own?.records ?? [];
  const names = [...new Set([...(delegation?.names ?? []), ...listed])].sort().slice(0, mostServers);
  const servers = await Promise.all(
    names.map(async (name) => {
      const looked = await addressesOf(deps.resolver, name, signal);
      return {
        name,
        addresses: looked.length > 0 ? looked : (delegation?.glue.get(name) ?? []),
        delegated: delegation?.names.includes(name) ?? false,
        listed: listed.includes(name),
      };
    }),
  );
  if (servers.some(({ addresses }) => addresses.length > 0)) return servers;
  const which = names.length === 0 ? 'It names no name server' : `No address is known of ${names.join(', ')}`;
  throw new CertlineError('dns_delegation_lame', `The zone ${zone} cannot be asked: ${which}.`, {
    evidence: { zone, servers },
  });
}
