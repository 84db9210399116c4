import { z } from 'zod';
import { quoted, unquoted } from './txt-text.ts';

/** A record of the API: TXT content is in quotation marks. */
const recordSchema = z.object({ content: z.string(), disabled: z.boolean().default(false) });
export type PowerDnsRecord = z.infer<typeof recordSchema>;

export const zoneListSchema = z.array(z.object({ id: z.string(), name: z.string(), kind: z.string() }));
export type PowerDnsZone = z.infer<typeof zoneListSchema>[number];

export const zoneSchema = z.object({
  dnssec: z.boolean().default(false),
  api_rectify: z.boolean().default(false),
  rrsets: z.array(z.object({ name: z.string(), type: z.string(), ttl: z.number(), records: z.array(recordSchema) })),
});
export type PowerDnsZoneState = z.infer<typeof zoneSchema>;

/** The TXT record set of a name. */
export interface PowerDnsSet {
  /** Null when there is none. */
  ttl: number | null;
  records: readonly PowerDnsRecord[];
}

/** A server that does not know the filter of record sets answers all of the zone. */
export function setOf(zone: PowerDnsZoneState, name: string): PowerDnsSet {
  const set = zone.rrsets.find((one) => one.type === 'TXT' && one.name.toLowerCase() === `${name}.`);
  return { ttl: set?.ttl ?? null, records: set?.records ?? [] };
}

const isValue = (value: string) => (record: PowerDnsRecord) => unquoted(record.content) === value;

/** Whether the value is served. */
export const isServed = ({ records }: PowerDnsSet, value: string): boolean =>
  records.filter(({ disabled }) => !disabled).some(isValue(value));

/**
 * Whether a server has EXTEND and PRUNE, which change one record and leave the others to the server (https://doc.powerdns.com/authoritative/http-api/zone.html:
 * from 4.9.12 and 5.0.2 on). A version that cannot be read is taken for an old one.
 */
export function changesSingleRecords(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = (/^(\d+)\.(\d+)\.(\d+)/.exec(version) ?? []).slice(1).map(Number);
  if (major !== 4) return major > 5 || (major === 5 && (minor > 0 || patch >= 2));
  return minor > 9 || (minor === 9 && patch >= 12);
}

/** The element of `rrsets` that adds the value, or takes it away. `single`: the server can do that to one record. */
export function changeOf(
  name: string,
  set: PowerDnsSet,
  change: { value: string; present: boolean; ttlSeconds: number; single: boolean },
): object {
  const { value, present, ttlSeconds, single } = change;
  // All records of a set have one TTL; a server may refuse another one.
  const head = { name: `${name}.`, type: 'TXT', ttl: set.ttl ?? ttlSeconds };
  // EXTEND and PRUNE forget records that are disabled: the server writes back what it serves.
  if (single && set.records.every(({ disabled }) => !disabled))
    return {
      ...head,
      changetype: present ? 'EXTEND' : 'PRUNE',
      records: [{ content: quoted(value), disabled: false }],
    };
  const others = set.records.filter((record) => !isValue(value)(record));
  const records = present ? [...others, { content: quoted(value), disabled: false }] : others;
  return { ...head, changetype: 'REPLACE', records };
}
