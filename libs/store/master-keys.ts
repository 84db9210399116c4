import { createHmac } from 'node:crypto';

/** The keys that secrets are sealed with, by id; new secrets take the current one, the others only open older ones. */
export interface MasterKeys {
  current: string;
  /** Each 32 bytes. */
  keys: ReadonlyMap<string, Buffer>;
}

const advice =
  'Write `id:key` on a line of its own, the current key first, with a key made by `openssl rand -base64 32`';

/** Tells two keys of the same id apart, and nothing about a key that is random. */
export function fingerprintOf(key: Buffer): string {
  return createHmac('sha256', key).update('certline master key').digest('base64url').slice(0, 16);
}

/** 32 bytes in base64 or base64url; the padding may be left out. */
const encodedKey = /^[A-Za-z0-9+/_-]{43}=?$/;
/** No dots: they part the fields of a sealed secret. */
const keyIdForm = /^[A-Za-z0-9_-]{1,64}$/;

/**
 * Reads the master keys of the configuration: `id:base64 of 32 bytes`, parted by line ends or commas, the first current.
 * A key without an id is called `default`. Blank lines and lines that begin with `#` are skipped.
 *
 * @param text The content of the key file.
 * @throws Error that says what to mend, by the number of the key; it never shows the key itself.
 */
export function parseMasterKeys(text: string): MasterKeys {
  const entries = text
    .split(/\r?\n/)
    .filter((line) => !line.trimStart().startsWith('#'))
    .flatMap((line) => line.split(','))
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');

  const keys = new Map<string, Buffer>();
  for (const [index, entry] of entries.entries()) {
    const colon = entry.indexOf(':');
    const id = colon < 0 ? 'default' : entry.slice(0, colon).trim();
    const encoded = entry.slice(colon + 1).trim();
    const which = `Master key ${index + 1}`;
    if (!keyIdForm.test(id))
      throw new Error(`${which} has a bad id: use 1 to 64 letters, digits, "-" and "_". ${advice}.`);
    if (!encodedKey.test(encoded)) throw new Error(`${which} is not 32 bytes of base64. ${advice}.`);
    if (keys.has(id)) throw new Error(`${which} has the id of an earlier one: give each its own. ${advice}.`);
    keys.set(id, Buffer.from(encoded, 'base64'));
  }
  const [current] = keys.keys();
  if (current === undefined) throw new Error(`There is no master key. ${advice}.`);
  return { current, keys };
}
