/** What of RFC 1035 §4.1 dynamic updates need beyond the `dns-packet` package: it knows neither the class NONE nor where a record begins. */

export const types = { CNAME: 5, SOA: 6, TXT: 16, TSIG: 250 } as const;
export const classes = { IN: 1, NONE: 254, ANY: 255 } as const;

export const uint16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
};
export const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
/** 48 bits, for seconds since the epoch. */
export const uint48 = (value: number): Buffer => {
  const bytes = Buffer.alloc(6);
  bytes.writeUIntBE(value, 0, 6);
  return bytes;
};

/** A name without compression, in lower case, as signatures cover it. Throws an `Error` for one that no message can carry. */
export function encodeName(name: string): Buffer {
  const labels = name.toLowerCase().replace(/\.$/, '').split('.');
  const parts = name === '.' || name === '' ? [] : labels.map((label) => Buffer.from(label, 'latin1'));
  if (parts.some(({ length }) => length === 0 || length > 63)) throw new Error(`${name} is no domain name`);
  const whole = Buffer.concat([...parts.flatMap((part) => [Buffer.of(part.length), part]), Buffer.of(0)]);
  if (whole.length > 255) throw new Error(`${name} is too long for a domain name`);
  return whole;
}

/** The name at `at`, in lower case without the final dot, and where the next field begins. */
export function readName(message: Buffer, at: number): { name: string; next: number } {
  const labels: string[] = [];
  let next = -1;
  for (let offset = at, hops = 0; ; ) {
    const length = message.readUInt8(offset);
    if (length >= 0xc0) {
      // A pointer must lead back; this many are in no honest name.
      if (++hops > 127) throw new Error('a name without end');
      if (next < 0) next = offset + 2;
      offset = message.readUInt16BE(offset) & 0x3fff;
      continue;
    }
    if (length > 63) throw new Error('a label that cannot be read');
    if (length === 0) return { name: labels.join('.').toLowerCase(), next: next < 0 ? offset + 1 : next };
    if (offset + 1 + length > message.length) throw new Error('a name that breaks off');
    labels.push(message.toString('latin1', offset + 1, offset + 1 + length));
    offset += 1 + length;
  }
}

/** A resource record (RFC 1035 §4.1.3). */
export function encodeRecord(name: string, type: number, klass: number, ttl: number, data: Buffer): Buffer {
  return Buffer.concat([encodeName(name), uint16(type), uint16(klass), uint32(ttl), uint16(data.length), data]);
}

/** TXT data: strings of 255 bytes at the most, which are one value together (RFC 1035 §3.3.14). */
export function encodeText(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  const parts: Buffer[] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += 255) {
    const part = bytes.subarray(at, at + 255);
    parts.push(Buffer.of(part.length), part);
  }
  return Buffer.concat(parts);
}

export interface WireRecord {
  name: string;
  type: number;
  klass: number;
  ttl: number;
  data: Buffer;
  /** Where it begins in the message. */
  start: number;
  end: number;
}

function readRecord(message: Buffer, start: number): WireRecord {
  const { name, next } = readName(message, start);
  const end = next + 10 + message.readUInt16BE(next + 8);
  if (end > message.length) throw new Error('a record that breaks off');
  const [type, klass] = [message.readUInt16BE(next), message.readUInt16BE(next + 2)];
  return { name, type, klass, ttl: message.readUInt32BE(next + 4), data: message.subarray(next + 10, end), start, end };
}

/** The records behind the questions, and how many of them are in the additional section. Throws an `Error` when the message breaks off. */
export function readRecords(message: Buffer): { records: WireRecord[]; additional: number } {
  let at = 12;
  for (let left = message.readUInt16BE(4); left > 0; left -= 1) at = readName(message, at).next + 4;
  const additional = message.readUInt16BE(10);
  const records: WireRecord[] = [];
  for (let left = message.readUInt16BE(6) + message.readUInt16BE(8) + additional; left > 0; left -= 1) {
    const record = readRecord(message, at);
    records.push(record);
    at = record.end;
  }
  return { records, additional };
}
