/** A tiny CA for the lab and the tests: it makes roots, intermediates and leaves of RSA or EC keys, and does what a real one must not if it is asked to. */
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import forge from 'node-forge';
import { systemClock } from '#libs/clock';
import {
  type Asn1,
  decode,
  encode,
  integer,
  nullValue,
  objectId,
  octetString,
  sequence,
  setOf,
  tagged,
  taggedBytes,
} from '#libs/crypto/der';

const { asn1 } = forge;
const { Class, Type } = asn1;

export interface AuthorityOptions {
  /** A kind of key, or a private key that there is; `ec` unless given. */
  key?: 'ec' | 'rsa' | KeyObject;
  /** Ms since the epoch; a day ago and in ten years unless given. */
  notBefore?: number;
  notAfter?: number;
  /** False leaves out what marks a CA. */
  ca?: boolean;
}

export interface LeafOptions {
  /** PEM of a private or public key, or a KeyObject. */
  key: string | KeyObject;
  names: readonly string[];
  /** Ms since the epoch; an hour ago and in ninety days unless given. */
  notBefore?: number;
  notAfter?: number;
  /** Marks the certificate as one of a CA. */
  ca?: boolean;
  /** Puts these addresses (4 bytes each) beside the names. */
  addresses?: Buffer[];
}

/** A CA whose key is in memory alone. */
export interface CertificateAuthority {
  /** Its own certificate. */
  certificatePem: string;
  privateKey: KeyObject;
  /** PEM of this CA's certificate and those above it, without the root. */
  chainPem: string;
  intermediate(commonName: string, options?: AuthorityOptions): CertificateAuthority;
  /** PEM of a leaf. */
  issue(options: LeafOptions): string;
  /** A leaf with an EC key made for it, both PEM. */
  issueWithKey(options: Omit<LeafOptions, 'key'>): { certificatePem: string; privateKeyPem: string };
}

const day = 86_400_000;
const ids = {
  commonName: '2.5.4.3',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
} as const;

/** A self-signed CA. */
export function createRootCa(commonName = 'Lab Root', options: AuthorityOptions = {}): CertificateAuthority {
  return createCa(commonName, options, undefined);
}

function createCa(commonName: string, options: AuthorityOptions, parent: Issuer | undefined): CertificateAuthority {
  const privateKey = typeof options.key === 'object' ? options.key : generateKey(options.key ?? 'ec');
  const publicKey = createPublicKey(privateKey);
  const own = { name: nameOf(commonName), privateKey, publicKey };
  const now = systemClock.now();
  const certificatePem = certificate(parent ?? own, {
    subject: own.name,
    publicKey,
    notBefore: options.notBefore ?? now - day,
    notAfter: options.notAfter ?? now + 3650 * day,
    extensions: options.ca === false ? leafExtensions() : caExtensions(),
  });
  const chainPem = parent === undefined ? '' : certificatePem + parent.chainPem;
  const self: Issuer = { ...own, chainPem };
  const issue = (leaf: LeafOptions): string =>
    certificate(self, {
      subject: leaf.names[0] === undefined || leaf.names[0].length > 64 ? sequence() : nameOf(leaf.names[0]),
      publicKey: typeof leaf.key === 'object' && leaf.key.type === 'public' ? leaf.key : createPublicKey(leaf.key),
      notBefore: leaf.notBefore ?? now - day / 24,
      notAfter: leaf.notAfter ?? now + 90 * day,
      extensions: [...(leaf.ca ? caExtensions() : leafExtensions()), altNamesOf(leaf)],
    });
  return {
    certificatePem,
    privateKey,
    chainPem,
    issue,
    intermediate: (name, its = {}) => createCa(name, its, self),
    issueWithKey(leaf) {
      const key = generateKey('ec');
      const privateKeyPem = String(key.export({ type: 'pkcs8', format: 'pem' }));
      return { certificatePem: issue({ ...leaf, key }), privateKeyPem };
    },
  };
}

const generateKey = (kind: 'ec' | 'rsa'): KeyObject =>
  kind === 'rsa'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
    : generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

interface Issuer {
  name: Asn1;
  privateKey: KeyObject;
  publicKey: KeyObject;
  chainPem?: string;
}

interface Contents {
  subject: Asn1;
  publicKey: KeyObject;
  notBefore: number;
  notAfter: number;
  extensions: Asn1[];
}

/** RFC 5280 §4.1, signed with SHA-256. */
function certificate(issuer: Issuer, contents: Contents): string {
  const algorithm =
    issuer.privateKey.asymmetricKeyType === 'rsa'
      ? sequence(objectId('1.2.840.113549.1.1.11'), nullValue())
      : sequence(objectId('1.2.840.10045.4.3.2'));
  const serial = randomBytes(16);
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x40, 0);
  const tbs = sequence(
    tagged(0, integer(2)),
    integer(serial),
    algorithm,
    issuer.name,
    sequence(time(contents.notBefore), time(contents.notAfter)),
    contents.subject,
    decode(spkiOf(contents.publicKey)),
    tagged(
      3,
      sequence(
        ...contents.extensions,
        extension(ids.subjectKeyId, octetString(keyIdOf(contents.publicKey))),
        extension(ids.authorityKeyId, sequence(taggedBytes(0, keyIdOf(issuer.publicKey)))),
      ),
    ),
  );
  const signature = sign('sha256', encode(tbs), issuer.privateKey);
  const body = encode(sequence(tbs, algorithm, bitString(signature))).toString('base64');
  const lines = body.replace(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

const bitString = (bytes: Buffer): Asn1 =>
  asn1.create(Class.UNIVERSAL, Type.BITSTRING, false, `\0${bytes.toString('binary')}`);
const yes = (): Asn1 => asn1.create(Class.UNIVERSAL, Type.BOOLEAN, false, '\xff');
const spkiOf = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });
const keyIdOf = (key: KeyObject): Buffer => createHash('sha1').update(spkiOf(key)).digest();

/** UTCTime until 2049, GeneralizedTime later (RFC 5280 §4.1.2.5). */
function time(ms: number): Asn1 {
  const at = new Date(ms);
  return at.getUTCFullYear() < 2050
    ? asn1.create(Class.UNIVERSAL, Type.UTCTIME, false, asn1.dateToUtcTime(at))
    : asn1.create(Class.UNIVERSAL, Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(at));
}

function nameOf(commonName: string): Asn1 {
  const text = Buffer.from(commonName, 'utf8').toString('binary');
  const value = asn1.create(Class.UNIVERSAL, Type.UTF8, false, text);
  return sequence(setOf(sequence(objectId(ids.commonName), value)));
}

const extension = (id: string, value: Asn1, critical = false): Asn1 =>
  sequence(objectId(id), ...(critical ? [yes()] : []), octetString(encode(value)));

const caExtensions = (): Asn1[] => [
  extension(ids.basicConstraints, sequence(yes()), true),
  extension(ids.keyUsage, bitString(Buffer.of(0x06)), true),
];

const leafExtensions = (): Asn1[] => [
  extension(ids.basicConstraints, sequence(), true),
  extension(ids.extendedKeyUsage, sequence(objectId(ids.serverAuth))),
];

function altNamesOf({ names, addresses = [] }: LeafOptions): Asn1 {
  const dns = names.map((name) => taggedBytes(2, Buffer.from(name, 'latin1')));
  return extension(ids.subjectAltName, sequence(...dns, ...addresses.map((address) => taggedBytes(7, address))));
}
