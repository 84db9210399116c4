import { challengeName } from '#libs/challenges/dns-records';
import { requireDelegation } from '#libs/challenges/dns-solver';
import type { DnsProvider } from '#libs/dns/dns-provider';
import { canonicalName } from '#libs/dns/message';
import type { Location, ZoneFinder } from '#libs/dns/zone';
import { CertlineError } from '#libs/errors';
import type { DnsMethod } from '#libs/model/challenge-method';
import type { DnsAccess } from '#libs/service/dns-access';
import type { Looks } from './finding.ts';

export interface DnsLookDeps {
  looks: Looks;
  /** URL of the ACME account, a part of some challenges' names. */
  accountUrl: string;
  zones: ZoneFinder;
  dns: DnsAccess;
}

interface Opened {
  provider: DnsProvider;
  /** Null where the provider does not tell. */
  zones: string[] | null;
}

const mostTold = 10;

/** Whether a credential sees the zone of a record, in words; throws `dns_zone_not_managed`. */
export function zoneWords(zones: readonly string[] | null, { name, zone }: Pick<Location, 'name' | 'zone'>): string {
  if (zones === null) return 'it opens; its provider does not tell which zones it may change (its test does)';
  if (zones.some((one) => canonicalName(one) === zone)) return `it sees the zone ${zone}`;
  const more = zones.length > mostTold ? ` and ${zones.length - mostTold} more` : '';
  const seen = zones.length === 0 ? 'no zone' : `${zones.slice(0, mostTold).join(', ')}${more}`;
  throw new CertlineError('dns_zone_not_managed', `it sees ${seen}, and not ${zone}, where ${name} is to be`, {
    evidence: { zone, zones },
  });
}

/** Looks whether names can be proved by challenges in DNS; writes nothing. */
export function createDnsLook({ looks, accountUrl, zones, dns }: DnsLookDeps) {
  const opened = new Map<string, Promise<Opened>>();

  async function open(credential: string): Promise<Opened> {
    const provider = await dns.open(credential);
    return { provider, zones: await provider.zones(looks.signal) };
  }

  return async (name: string, method: DnsMethod): Promise<void> => {
    const asked = challengeName(method.type, { name, accountUrl });
    const found: Location[] = [];
    await looks.look(name, 'zone', async (signal) => {
      const location = await zones.locate(asked, signal);
      found.push(location);
      const by = 'credential' in method ? '' : '; a person makes the record there';
      return `${location.chain.join(' → ')} is in the zone ${location.zone}${by}`;
    });
    if (!('credential' in method)) return;
    const { type, credential } = method;
    await looks.look(name, 'credential', async () => {
      const opening = opened.get(credential) ?? open(credential);
      opened.set(credential, opening);
      const { provider, zones: seen } = await opening;
      const [location] = found;
      if (location === undefined) return 'it opens';
      if (type !== 'dns-persist-01') requireDelegation(provider, asked, location.name);
      return zoneWords(seen, location);
    });
  };
}
