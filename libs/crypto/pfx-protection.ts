import { createCipheriv, createHmac, pbkdf2, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { type Asn1, integer, nullValue, objectId, octetString, sequence } from './der.ts';
import { derivePkcs12, type Pkcs12Hash, purpose } from './pkcs12-kdf.ts';

const derivePbkdf2 = promisify(pbkdf2);

/**
 * `aes-256`: PBES2 (RFC 8018) with PBKDF2-HMAC-SHA256 and AES-256-CBC, MAC with SHA-256.
 * `3des`: pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292 appendix C), MAC with SHA-1.
 */
export type PfxForm = 'aes-256' | '3des';

/** Windows 10 1809 and Windows Server 2019, the first server that reads the AES form. */
const firstBuildWithAes = 17_763;

/**
 * The PFX form that a Windows host can read.
 * Source: learn.microsoft.com, PKCS12_PBES2_EXPORT_PARAMS (wincrypt.h), "Minimum supported server: Windows Server 2019".
 *
 * @param osBuild Build number of the host: 14393 is Server 2016, 17763 is Server 2019.
 */
export function pfxFormFor(osBuild: number): PfxForm {
  return osBuild >= firstBuildWithAes ? 'aes-256' : '3des';
}

/**
 * Every derivation of a file uses as many, since the cheapest one is the one that gets guessed at.
 * 2048 is OpenSSL's default and close to the 2000 of Windows' own exports, so every reader takes it. A higher count would
 * add little: a file lives for one deployment, and its strength is in a long random password.
 */
const iterations = 2048;
const saltBytes = 16;

export interface Protected {
  /** AlgorithmIdentifier with the salt, count and IV. */
  algorithm: Asn1;
  ciphertext: Buffer;
}

/** Encrypts a part of a PFX with a fresh salt. The costly derivation does not block the event loop. */
export function protect(form: PfxForm, password: string, plaintext: Buffer): Promise<Protected> {
  return form === 'aes-256' ? protectWithAes(password, plaintext) : protectWithTripleDes(password, plaintext);
}

async function protectWithAes(password: string, plaintext: Buffer): Promise<Protected> {
  const salt = randomBytes(saltBytes);
  const iv = randomBytes(16);
  // RFC 8018 §3 recommends ASCII or UTF-8 and OpenSSL takes UTF-8 here, unlike in the derivation of RFC 7292.
  const key = await derivePbkdf2(Buffer.from(password, 'utf8'), salt, iterations, 32, 'sha256');
  const keyDerivation = sequence(
    objectId('1.2.840.113549.1.5.12'), // PBKDF2
    sequence(
      octetString(salt),
      integer(iterations),
      sequence(objectId('1.2.840.113549.2.9'), nullValue()), // hmacWithSHA256
    ),
  );
  const encryption = sequence(
    objectId('2.16.840.1.101.3.4.1.42'), // aes256-CBC-PAD
    octetString(iv),
  );
  return {
    algorithm: sequence(
      objectId('1.2.840.113549.1.5.13'), // PBES2
      sequence(keyDerivation, encryption),
    ),
    ciphertext: encrypt('aes-256-cbc', key, iv, plaintext),
  };
}

async function protectWithTripleDes(password: string, plaintext: Buffer): Promise<Protected> {
  const salt = randomBytes(saltBytes);
  const common = { password, salt, iterations, hash: 'sha1' } as const;
  const key = await derivePkcs12({
    ...common,
    purpose: purpose.key,
    length: 24,
  });
  const iv = await derivePkcs12({ ...common, purpose: purpose.iv, length: 8 });
  return {
    algorithm: sequence(
      objectId('1.2.840.113549.1.12.1.3'), // pbeWithSHAAnd3-KeyTripleDES-CBC
      sequence(octetString(salt), integer(iterations)),
    ),
    ciphertext: encrypt('des-ede3-cbc', key, iv, plaintext),
  };
}

function encrypt(cipher: 'aes-256-cbc' | 'des-ede3-cbc', key: Buffer, iv: Buffer, plaintext: Buffer): Buffer {
  const encryptor = createCipheriv(cipher, key, iv);
  return Buffer.concat([encryptor.update(plaintext), encryptor.final()]);
}

const macs: Record<PfxForm, { hash: Pkcs12Hash; length: number; oid: string }> = {
  'aes-256': { hash: 'sha256', length: 32, oid: '2.16.840.1.101.3.4.2.1' },
  '3des': { hash: 'sha1', length: 20, oid: '1.3.14.3.2.26' },
};

/** MacData of RFC 7292 §4 over the authenticated safe: its key comes from appendix B in either form. */
export async function macData(form: PfxForm, password: string, content: Buffer): Promise<Asn1> {
  const { hash, length, oid } = macs[form];
  const salt = randomBytes(saltBytes);
  const key = await derivePkcs12({
    password,
    salt,
    iterations,
    purpose: purpose.mac,
    length,
    hash,
  });
  const digest = createHmac(hash, key).update(content).digest();
  return sequence(
    sequence(sequence(objectId(oid), nullValue()), octetString(digest)),
    octetString(salt),
    integer(iterations),
  );
}
