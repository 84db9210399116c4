import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { CertlineError } from '../errors.ts';
import type { MasterKeys } from './master-keys.ts';

export { type MasterKeys, parseMasterKeys } from './master-keys.ts';

/** Seals secrets for the store and opens them again. `name` is the full name under which a secret is stored. */
export interface SecretBox {
  /** Encrypts under a fresh key, which is wrapped with the current master key. */
  seal(name: string, plaintext: string | Buffer): string;
  /** @throws CertlineError `secret_unreadable`: another name, an unknown or other master key, or a changed blob. */
  open(name: string, blob: string): Buffer;
  /**
   * The same blob with its key wrapped by the current master key; the ciphertext stays, so the plaintext is never seen.
   * @throws CertlineError `secret_unreadable` as `open` does.
   */
  rewrap(name: string, blob: string): string;
  /**
   * Id of the master key a blob needs.
   * @throws CertlineError `secret_unreadable` if it is not a blob.
   */
  keyIdOf(blob: string): string;
  /** Id of the master key that new blobs are sealed with. */
  readonly currentKeyId: string;
}

const version = 'v1';
const algorithm = 'aes-256-gcm';
const keyBytes = 32;
/** NIST SP 800-38D §8.2.2: a random IV of 96 bits is good for 2^32 messages of one key; a master key wraps far fewer. */
const ivBytes = 12;
/** The whole tag: node takes shorter ones unless it is told, and they are easier to forge. */
const tagBytes = 16;

interface Sealed {
  iv: Buffer;
  /** Ciphertext with its tag at the end. */
  data: Buffer;
}

interface Blob {
  keyId: string;
  wrapped: Sealed;
  content: Sealed;
}

/**
 * An envelope of AES-256-GCM: each secret has a random data key, and only that is encrypted with a master key.
 *
 * A blob is `v1.<key id>.<iv>.<wrapped data key + tag>.<iv>.<ciphertext + tag>`, its binary parts base64url. Both layers
 * authenticate the version and the full name of the secret, so that a blob copied to another name does not open there.
 *
 * @throws Error if the current key is missing or a key is not 32 bytes long: a mistake in the configuration.
 */
export function createSecretBox({ current, keys }: MasterKeys): SecretBox {
  for (const [id, key] of keys)
    if (key.length !== keyBytes) throw new Error(`Master key "${id}" must be ${keyBytes} bytes long`);
  const currentKey = keys.get(current);
  if (currentKey === undefined) throw new Error(`The current master key "${current}" is not among the keys`);

  const wrap = (name: string, dataKey: Buffer): Sealed => encrypt(currentKey, associatedData('key', name), dataKey);

  const unwrap = (name: string, blob: Blob): Buffer => {
    const key = keys.get(blob.keyId);
    if (key === undefined) throw unreadable(`"${name}" is sealed with master key "${blob.keyId}", which is not given`);
    return decrypt(key, associatedData('key', name), blob.wrapped, name);
  };

  return {
    currentKeyId: current,
    keyIdOf: (blob) => parse(blob).keyId,
    seal(name, plaintext) {
      const dataKey = randomBytes(keyBytes);
      const content = encrypt(dataKey, associatedData('content', name), Buffer.from(plaintext));
      return format({ keyId: current, wrapped: wrap(name, dataKey), content });
    },
    open(name, text) {
      const blob = parse(text);
      const dataKey = unwrap(name, blob);
      return decrypt(dataKey, associatedData('content', name), blob.content, name);
    },
    rewrap(name, text) {
      const blob = parse(text);
      const wrapped = wrap(name, unwrap(name, blob));
      return format({ keyId: current, wrapped, content: blob.content });
    },
  };
}

function associatedData(layer: 'key' | 'content', name: string): Buffer {
  // The name is last and the parts before it have no spaces: no two inputs make the same bytes.
  return Buffer.from(`certline ${version} ${layer} ${name}`);
}

function encrypt(key: Buffer, aad: Buffer, plaintext: Buffer): Sealed {
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv(algorithm, key, iv, {
    authTagLength: tagBytes,
  }).setAAD(aad);
  const data = Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { iv, data };
}

function decrypt(key: Buffer, aad: Buffer, { iv, data }: Sealed, name: string): Buffer {
  const end = data.length - tagBytes;
  try {
    const decipher = createDecipheriv(algorithm, key, iv, {
      authTagLength: tagBytes,
    })
      .setAAD(aad)
      .setAuthTag(data.subarray(end));
    return Buffer.concat([decipher.update(data.subarray(0, end)), decipher.final()]);
  } catch (cause) {
    throw unreadable(`"${name}" does not open: another master key, another name, or a changed blob`, cause);
  }
}

function format({ keyId, wrapped, content }: Blob): string {
  const binary = [wrapped.iv, wrapped.data, content.iv, content.data];
  const parts = binary.map((part) => part.toString('base64url'));
  return [version, keyId, ...parts].join('.');
}

function parse(text: string): Blob {
  const [tag, keyId, ...parts] = text.split('.');
  const [wrapIv, wrapData, iv, data] = parts.map((part) => Buffer.from(part, 'base64url'));
  const whole =
    tag === version &&
    keyId !== undefined &&
    parts.length === 4 &&
    wrapIv?.length === ivBytes &&
    wrapData?.length === keyBytes + tagBytes &&
    iv?.length === ivBytes &&
    data !== undefined &&
    data.length >= tagBytes;
  if (!whole) throw unreadable('This is not a sealed secret');
  return {
    keyId,
    wrapped: { iv: wrapIv, data: wrapData },
    content: { iv, data },
  };
}

function unreadable(detail: string, cause?: unknown): CertlineError {
  return new CertlineError('secret_unreadable', detail, { cause });
}
