import { classes, encodeName, encodeRecord, encodeText, types, uint16 } from './wire.ts';

const updateOpcode = 5;
/** RFC 1035 §4.1.1, RFC 2136 §2.2. */
const rcodes = [
  ...['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'],
  ...['YXDOMAIN', 'YXRRSET', 'NXRRSET', 'NOTAUTH', 'NOTZONE'],
];

/** A change of one value of a TXT record set. */
export interface TxtUpdate {
  /** Adds the value with a TTL in seconds, or takes it away. */
  change: { add: true; ttl: number } | { add: false };
  zone: string;
  name: string;
  value: string;
}

/**
 * A dynamic update (RFC 2136 §2) of one value: the others at the name are not in it, so that the server keeps them. An added one has a
 * prerequisite: no CNAME at the name. Without it a server that has one there would say NOERROR and do nothing (§3.4.2.2).
 */
export function encodeUpdate(id: number, { change, zone, name, value }: TxtUpdate): Buffer {
  const prerequisites = change.add ? [encodeRecord(name, types.CNAME, classes.NONE, 0, Buffer.alloc(0))] : [];
  const update = change.add
    ? encodeRecord(name, types.TXT, classes.IN, change.ttl, encodeText(value))
    : encodeRecord(name, types.TXT, classes.NONE, 0, encodeText(value));
  return message(id, zone, prerequisites, [update]);
}

/** An update that changes nothing: by its answer one learns whether the server takes updates of the zone with a key at all. */
export function encodeEmptyUpdate(id: number, zone: string): Buffer {
  return message(id, zone, [], []);
}

function message(id: number, zone: string, prerequisites: readonly Buffer[], updates: readonly Buffer[]): Buffer {
  const header = [id, updateOpcode << 11, 1, prerequisites.length, updates.length, 0].map(uint16);
  const zoneSection = [encodeName(zone), uint16(types.SOA), uint16(classes.IN)];
  return Buffer.concat([...header, ...zoneSection, ...prerequisites, ...updates]);
}

/** The name of the RCODE of an answer to the update; null when the message is none. */
export function rcodeOf(message: Buffer, id: number): string | null {
  if (message.length < 12 || message.readUInt16BE(0) !== id) return null;
  const flags = message.readUInt16BE(2);
  if (flags >> 15 !== 1 || ((flags >> 11) & 0xf) !== updateOpcode) return null;
  return rcodes[flags & 0xf] ?? `RCODE ${flags & 0xf}`;
}
