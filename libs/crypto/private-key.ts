import { createPublicKey, generateKeyPair, KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { KeyType } from '../model/certificate.ts';

// The callback form makes keys on libuv's threads; the Sync form would hold up every order of the process (an RSA-4096 key takes seconds).
const generate = promisify(generateKeyPair);

const rsaBits = {
  'rsa-2048': 2048,
  'rsa-3072': 3072,
  'rsa-4096': 4096,
} as const;
const ecCurves = { 'ec-p256': 'prime256v1', 'ec-p384': 'secp384r1' } as const;

/**
 * Makes a private key without blocking the event loop.
 *
 * @returns PKCS#8 PEM (RFC 5958, RFC 7468 §10), not encrypted. Seal it before it is stored.
 */
export async function generatePrivateKey(type: KeyType): Promise<string> {
  const pair =
    type === 'ec-p256' || type === 'ec-p384'
      ? await generate('ec', { namedCurve: ecCurves[type] })
      : await generate('rsa', { modulusLength: rsaBits[type] });
  return pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/**
 * The public half of a key.
 *
 * @param key PEM of a private key or of a public key, or a `KeyObject` of either kind.
 * @throws Error from OpenSSL if the PEM holds no key.
 */
export function publicKeyOf(key: string | KeyObject): KeyObject {
  // createPublicKey() refuses a KeyObject that is public already.
  if (key instanceof KeyObject && key.type === 'public') return key;
  return createPublicKey(key);
}

/** Which of certline's key types a public or private key has; undefined for any other (DSA, Ed25519, odd RSA sizes, other curves). */
export function keyTypeOf(key: KeyObject): KeyType | undefined {
  const details = key.asymmetricKeyDetails;
  if (key.asymmetricKeyType === 'rsa') {
    return entryOf(rsaBits, details?.modulusLength);
  }
  if (key.asymmetricKeyType === 'ec') {
    return entryOf(ecCurves, details?.namedCurve);
  }
  return undefined;
}

function entryOf<Name extends string>(
  table: Record<Name, string | number>,
  value: string | number | undefined,
): Name | undefined {
  for (const name in table) if (table[name] === value) return name;
  return undefined;
}
