import { CertlineError } from '../errors.ts';
import type { TxtRecord } from './dns-provider.ts';

/** So many zones are told of. */
const shownZones = 10;

/** The name as its zone sees it: without the zone's own; `apex` (`@`, or nothing) for the zone's own. */
export function relativeName({ name, zone }: TxtRecord, apex: string): string {
  if (name === zone) return apex;
  if (!name.endsWith(`.${zone}`)) throw new CertlineError('dns_provider_refused', `${name} is not in the zone ${zone}`);
  return name.slice(0, -(zone.length + 1));
}

/** A name as certline writes it: lower case, without the final dot. */
export function plainName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

/** The error for a zone that is not among those `seen`; null when the provider does not tell. */
export function zoneNotManaged(title: string, zone: string, seen: readonly string[] | null): CertlineError {
  if (seen === null)
    return new CertlineError(
      'dns_zone_not_managed',
      `${title}: the zone ${zone} is not there, or not for this credential`,
    );
  const some = seen.slice(0, shownZones).join(', ');
  const more = seen.length > shownZones ? ` and ${seen.length - shownZones} more` : '';
  const words = seen.length === 0 ? 'it sees no zone at all' : `it sees ${some}${more}`;
  return new CertlineError('dns_zone_not_managed', `${title}: the credential does not see the zone ${zone}; ${words}`);
}

/** Providers let several public zones have one name, each with name servers of its own: nobody can tell here which of them the world asks. */
export function zoneAmbiguous(title: string, zone: string, ids: readonly string[], field: string): CertlineError {
  return new CertlineError(
    'dns_zone_not_managed',
    `${title}: several public zones are named ${zone} (${ids.join(', ')}); say in ${field} which of them the name servers of the domain serve`,
  );
}
