import { createHmac, timingSafeEqual } from 'node:crypto';
import { classes, encodeName, encodeRecord, readName, readRecords, types, uint16, uint32, uint48 } from './wire.ts';

/** Algorithms by their names in DNS (RFC 8945 §6), without HMAC-MD5, which nobody needs any more. */
export const tsigAlgorithms = ['hmac-sha1', 'hmac-sha256', 'hmac-sha384', 'hmac-sha512'] as const;
export type TsigAlgorithm = (typeof tsigAlgorithms)[number];

export interface TsigKey {
  name: string;
  algorithm: TsigAlgorithm;
  secret: Buffer;
}

/** How far the clocks may be apart, in seconds (RFC 8945 §10). */
const fudge = 300;
const errors: Record<number, string> = { 16: 'BADSIG', 17: 'BADKEY', 18: 'BADTIME', 22: 'BADTRUNC' };

/** What of a TSIG record the signature covers (RFC 8945 §4.3.3). */
interface Variables {
  keyName: string;
  algorithm: string;
  /** Seconds since the epoch. */
  time: number;
  fudge: number;
  error: number;
  other: Buffer;
}

function macOf(key: TsigKey, parts: readonly Buffer[], variables: Variables): Buffer {
  const { keyName, algorithm, time, error, other } = variables;
  const hmac = createHmac(key.algorithm.slice('hmac-'.length), key.secret);
  for (const part of parts) hmac.update(part);
  for (const part of [encodeName(keyName), uint16(classes.ANY), uint32(0), encodeName(algorithm)]) hmac.update(part);
  for (const part of [uint48(time), uint16(variables.fudge), uint16(error), uint16(other.length), other])
    hmac.update(part);
  return hmac.digest();
}

/** A message with one more additional record, or one less. */
function withAdditional(message: Buffer, change: 1 | -1, id: number): Buffer {
  const copy = Buffer.from(message);
  copy.writeUInt16BE(id, 0);
  copy.writeUInt16BE(message.readUInt16BE(10) + change, 10);
  return copy;
}

/**
 * A message with its TSIG record, and its signature, which the answer's covers too.
 *
 * @param now ms since the epoch
 * @param requestMac of the request, when the message is its answer
 */
export function signMessage(
  message: Buffer,
  key: TsigKey,
  now: number,
  requestMac?: Buffer,
): { signed: Buffer; mac: Buffer } {
  const time = Math.floor(now / 1000);
  const variables = { keyName: key.name, algorithm: key.algorithm, time, fudge, error: 0, other: Buffer.alloc(0) };
  const before = requestMac === undefined ? [] : [uint16(requestMac.length), requestMac];
  const mac = macOf(key, [...before, message], variables);
  const id = message.readUInt16BE(0);
  const data = Buffer.concat([
    ...[encodeName(key.algorithm), uint48(time), uint16(fudge), uint16(mac.length), mac],
    ...[uint16(id), uint16(0), uint16(0)],
  ]);
  const record = encodeRecord(key.name, types.TSIG, classes.ANY, 0, data);
  return { signed: Buffer.concat([withAdditional(message, 1, id), record]), mac };
}

/** `unsigned`: there is no TSIG record, or one without a signature. `error` is what the record says (`BADKEY`, …), null when nothing. */
export type TsigVerdict =
  | { kind: 'good'; error: string | null; serverTime: number | null }
  | { kind: 'unsigned'; error: string | null }
  | { kind: 'bad'; why: string };

/**
 * Checks the signature of an answer to a request that was signed with the key (RFC 8945 §5.3). Throws an `Error` when the message cannot be read.
 *
 * @param now ms since the epoch
 */
export function verifyAnswer(message: Buffer, key: TsigKey, requestMac: Buffer, now: number): TsigVerdict {
  return verify(message, key, [uint16(requestMac.length), requestMac], now);
}

/** The same for a request; a server does that. */
export function verifyRequest(message: Buffer, key: TsigKey, now: number): TsigVerdict {
  return verify(message, key, [], now);
}

/** The signature of a message, as it stands there; empty without one. */
export function readMac(message: Buffer): Buffer {
  return readTsig(message)?.mac ?? Buffer.alloc(0);
}

function readTsig(message: Buffer): (Variables & { mac: Buffer; originalId: number; start: number }) | null {
  const { records, additional } = readRecords(message);
  const last = records.at(-1);
  if (additional === 0 || last === undefined || last.type !== types.TSIG) return null;
  const { data, klass, ttl } = last;
  if (klass !== classes.ANY || ttl !== 0) throw new Error('a TSIG record of another class or with a TTL');
  const { name: algorithm, next: at } = readName(data, 0);
  const macEnd = at + 10 + data.readUInt16BE(at + 8);
  const other = data.subarray(macEnd + 6);
  if (other.length !== data.readUInt16BE(macEnd + 4)) throw new Error('a TSIG record that breaks off');
  return {
    ...{ keyName: last.name, algorithm, time: data.readUIntBE(at, 6), fudge: data.readUInt16BE(at + 6) },
    ...{ mac: data.subarray(at + 10, macEnd), originalId: data.readUInt16BE(macEnd) },
    ...{ error: data.readUInt16BE(macEnd + 2), other, start: last.start },
  };
}

function verify(message: Buffer, key: TsigKey, before: readonly Buffer[], now: number): TsigVerdict {
  const tsig = readTsig(message);
  if (tsig === null) return { kind: 'unsigned', error: null };
  const error = tsig.error === 0 ? null : (errors[tsig.error] ?? `error ${tsig.error}`);
  if (tsig.mac.length === 0) return { kind: 'unsigned', error };
  const { keyName, algorithm, originalId, start, mac, time } = tsig;
  if (keyName !== key.name.toLowerCase().replace(/\.$/, '') || algorithm !== key.algorithm)
    return { kind: 'bad', why: `is by the key ${keyName} (${algorithm})` };
  const unsigned = withAdditional(message.subarray(0, start), -1, originalId);
  const right = macOf(key, [...before, unsigned], tsig);
  if (mac.length !== right.length || !timingSafeEqual(mac, right)) return { kind: 'bad', why: 'is not of the key' };
  // RFC 8945 §5.2.3: with BADTIME the time is ours again, and the server's is beside it.
  const serverTime = tsig.other.length === 6 ? tsig.other.readUIntBE(0, 6) : null;
  if (Math.abs(now / 1000 - time) > tsig.fudge + 1)
    return { kind: 'bad', why: `is of ${new Date(time * 1000).toISOString()}, not of now` };
  return { kind: 'good', error, serverTime };
}
