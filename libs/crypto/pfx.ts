import { createHash, createPrivateKey, type KeyObject, type X509Certificate } from 'node:crypto';
import { CertlineError } from '../errors.ts';
import {
  type Asn1,
  bmpString,
  encode,
  integer,
  objectId,
  octetString,
  sequence,
  setOf,
  tagged,
  taggedBytes,
} from './der.ts';
import { macData, type PfxForm, protect } from './pfx-protection.ts';
import { isSelfSigned, parseChain } from './x509.ts';

export { type PfxForm, pfxFormFor } from './pfx-protection.ts';

export interface PfxInput {
  /** PKCS#8 PEM, RSA or EC. */
  privateKeyPem: string;
  /** The leaf first, then its intermediates. */
  chainPem: string;
  /** Any text but the empty one, which readers take for "no password". */
  password: string;
  /** What Windows shows as the name of the certificate; any text. */
  friendlyName: string;
  form: PfxForm;
}

const ids = {
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certBag: '1.2.840.113549.1.12.10.1.3',
  x509Certificate: '1.2.840.113549.1.9.22.1',
  friendlyName: '1.2.840.113549.1.9.20',
  localKeyId: '1.2.840.113549.1.9.21',
} as const;

/**
 * A PFX file (PKCS#12 v3, RFC 7292) with the key, the leaf and its intermediates; a self-signed root is left out,
 * since a host must not come to trust a CA through a deployment. Built here because node-forge's writer takes RSA keys only.
 * Does not block: the derivations run on libuv's threads or give way to the event loop.
 *
 * @returns DER of the file, with fresh salts each time.
 * @throws CertlineError `certificate_mismatch` if the key is not that of the leaf.
 * @throws CertlineError `chain_invalid` if there is no certificate or one cannot be read.
 * @throws Error if the password is empty or the key cannot be read.
 */
export async function createPfx(input: PfxInput): Promise<Buffer> {
  const { form, password, friendlyName } = input;
  if (password === '') throw new Error('a PFX needs a password');
  const privateKey = createPrivateKey(input.privateKeyPem);
  const [leaf, ...issuers] = parseChain(input.chainPem);
  if (leaf === undefined) throw new CertlineError('chain_invalid', 'There is no certificate');
  if (!leaf.checkPrivateKey(privateKey))
    throw new CertlineError('certificate_mismatch', 'The certificate is for another key');

  // The same id on both is how a reader finds the certificate of the key; any bytes do, the SHA-1 of the leaf is usual.
  const owner = attributes(friendlyName, createHash('sha1').update(leaf.raw).digest());
  const intermediates = issuers.filter((issuer) => !isSelfSigned(issuer));
  const [certificates, key] = await Promise.all([
    encryptedContents(form, password, [
      certBag(leaf, owner),
      ...intermediates.map((certificate) => certBag(certificate)),
    ]),
    keyBag(form, password, privateKey, owner),
  ]);
  const authenticatedSafe = encode(sequence(certificates, dataContents(encode(sequence(key)))));
  return encode(
    sequence(integer(3), dataContents(authenticatedSafe), await macData(form, password, authenticatedSafe)),
  );
}

/** PKCS12Attributes, RFC 7292 §4.2. */
function attributes(friendlyName: string, localKeyId: Buffer): Asn1 {
  return setOf(
    sequence(objectId(ids.friendlyName), setOf(bmpString(friendlyName))),
    sequence(objectId(ids.localKeyId), setOf(octetString(localKeyId))),
  );
}

/** SafeBag, RFC 7292 §4.2. */
function bag(id: string, value: Asn1, bagAttributes?: Asn1): Asn1 {
  const parts = [objectId(id), tagged(0, value)];
  return sequence(...parts, ...(bagAttributes === undefined ? [] : [bagAttributes]));
}

function certBag(certificate: X509Certificate, bagAttributes?: Asn1): Asn1 {
  const value = sequence(objectId(ids.x509Certificate), tagged(0, octetString(certificate.raw)));
  return bag(ids.certBag, value, bagAttributes);
}

/** PKCS8ShroudedKeyBag: an EncryptedPrivateKeyInfo, RFC 7292 §4.2.2. */
async function keyBag(form: PfxForm, password: string, privateKey: KeyObject, bagAttributes: Asn1): Promise<Asn1> {
  const plain = privateKey.export({ type: 'pkcs8', format: 'der' });
  const { algorithm, ciphertext } = await protect(form, password, plain);
  return bag(ids.shroudedKeyBag, sequence(algorithm, octetString(ciphertext)), bagAttributes);
}

/** ContentInfo of type data, RFC 7292 §4. */
function dataContents(content: Buffer): Asn1 {
  return sequence(objectId(ids.data), tagged(0, octetString(content)));
}

/** ContentInfo of type encryptedData around SafeContents, RFC 2315 §13. */
async function encryptedContents(form: PfxForm, password: string, bags: Asn1[]): Promise<Asn1> {
  const plain = encode(sequence(...bags));
  const { algorithm, ciphertext } = await protect(form, password, plain);
  const contentInfo = sequence(objectId(ids.data), algorithm, taggedBytes(0, ciphertext));
  return sequence(objectId(ids.encryptedData), tagged(0, sequence(integer(0), contentInfo)));
}
