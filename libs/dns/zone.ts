import { parse } from 'tldts';
import { CertlineError } from '../errors.ts';
import { withinLimit } from './limits.ts';
import { canonicalName } from './message.ts';
import type { Resolver } from './resolver.ts';

/** Where the TXT of a challenge really has to be. */
export interface Location {
  /** The name, after all CNAMEs were followed. */
  name: string;
  zone: string;
  /** Every name on the way, from the one asked for to `name`. */
  chain: string[];
  /** The name servers of the zone, as a resolver sees them. */
  nameservers: string[];
}

export interface ZoneFinder {
  /**
   * The zone that a name lies in, CNAMEs at the name left aside. Throws `CertlineError`: `dns_zone_not_found` when it is in none but a
   * public suffix's; those of `Resolver.lookup`.
   */
  findZone(name: string, signal: AbortSignal): Promise<string>;
  /** Follows the CNAMEs at a name, then finds the zone. Throws as `findZone`; for a circle, or too many CNAMEs, `dns_lookup_failed`. */
  locate(name: string, signal: AbortSignal): Promise<Location>;
}

export interface ZoneFinderOptions {
  resolver: Resolver;
  /** Milliseconds for one call in all. */
  limitMs?: number;
}

/** What a CA's resolver follows before it gives up (Unbound, which Let's Encrypt uses: 11); delegations have one or two. */
const mostAliases = 8;
const usualLimitMs = 45_000;

const parentOf = (name: string): string => (name.includes('.') ? name.slice(name.indexOf('.') + 1) : '.');

/** Whether a name is a zone's own or below it. */
export function isWithin(name: string, zone: string): boolean {
  return zone === '.' || name === zone || name.endsWith(`.${zone}`);
}

/** A suffix that registries register below: what is in its zone itself has not been registered, or not been delegated. */
function isRegistrys(zone: string): boolean {
  const { publicSuffix, isIcann } = parse(zone, { allowPrivateDomains: false });
  return zone === '.' || (isIcann === true && publicSuffix === zone);
}

/**
 * The zone by its SOA: it is in the answer at the top of a zone and in the authority section below it (RFC 1034 §4.3.4, RFC 2308 §2).
 * A resolver that leaves it out is asked again a label higher. No label is guessed.
 */
export function createZoneFinder({ resolver, limitMs = usualLimitMs }: ZoneFinderOptions): ZoneFinder {
  function checked(name: string, zone: string, rcode: string): string {
    if (!isRegistrys(zone)) return zone;
    const what = rcode === 'NXDOMAIN' ? 'does not exist' : 'is not delegated to any name server';
    const where = zone === '.' ? 'the root zone' : `the zone ${zone}`;
    throw new CertlineError('dns_zone_not_found', `${name} lies in no zone: its domain ${what} (says ${where}).`, {
      evidence: { name, answeredBy: zone, rcode },
    });
  }

  async function climb(name: string, signal: AbortSignal): Promise<string> {
    let rcode = 'NOERROR';
    for (let at = name; at !== '.'; at = parentOf(at)) {
      const found = await resolver.lookup(at, 'SOA', signal);
      rcode = found.rcode;
      // Through a CNAME comes the SOA of its target's zone; the name itself lies in the zone of its parent then.
      if (found.aliases.length === 0 && found.soa && isWithin(name, found.soa.zone)) {
        return checked(name, found.soa.zone, rcode);
      }
    }
    return checked(name, '.', rcode);
  }

  async function follow(name: string, signal: AbortSignal): Promise<Location> {
    const chain = [name];
    for (let at = name; ; ) {
      const found = await resolver.lookup(at, 'CNAME', signal);
      const [target] = found.records;
      if (target === undefined) {
        const fits = found.soa && isWithin(at, found.soa.zone);
        const zone = fits ? checked(at, found.soa?.zone ?? '.', found.rcode) : await climb(at, signal);
        const { records } = await resolver.lookup(zone, 'NS', signal);
        return { name: at, zone, chain, nameservers: records.sort() };
      }
      const way = [...chain, target].join(' → ');
      const wrong = chain.includes(target)
        ? `The CNAMEs of ${name} lead in a circle: ${way}. Mend the one that is wrong.`
        : chain.length > mostAliases &&
          `${name} leads over more than ${mostAliases} CNAMEs: ${way}. Make the way shorter.`;
      if (wrong) throw new CertlineError('dns_lookup_failed', wrong, { evidence: { name, chain: [...chain, target] } });
      chain.push(target);
      at = target;
    }
  }

  return {
    findZone: (typed, signal) => {
      const name = canonicalName(typed);
      return withinLimit(`The zone of ${name}`, limitMs, signal, (within) => climb(name, within));
    },
    locate: (typed, signal) => {
      const name = canonicalName(typed);
      return withinLimit(`The zone of ${name}`, limitMs, signal, (within) => follow(name, within));
    },
  };
}
