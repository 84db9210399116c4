import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import forge from 'node-forge';
import { systemClock } from '#libs/clock';
import {
  type Asn1,
  decode,
  encode,
  integer,
  objectId,
  octetString,
  sequence,
  setOf,
  tagged,
  taggedBytes,
} from '#libs/crypto/der';

const { asn1 } = forge;
const { Class, Type } = asn1;
const day = 86_400_000;

/** PEM texts. */
export interface BenchCertificate {
  readonly leaf: string;
  readonly privateKey: string;
}

/** A CA for this run alone, whose key is not kept, of EC keys: node-forge signs with RSA alone, and takes its time for it. */
export interface BenchCa {
  /** Its own certificate, PEM. */
  readonly certificate: string;
  /** A certificate for a name, with a key of its own. */
  issue(name: string): BenchCertificate;
}

export function createBenchCa(): BenchCa {
  const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const subject = nameOf('certline bench');
  const authority = [extension('2.5.29.19', sequence(primitive(Type.BOOLEAN, '\xff')), true)];
  const issuer = { name: subject, ...keys };
  return {
    certificate: certificate(issuer, subject, keys.publicKey, authority),
    issue(name) {
      const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const altNames = extension('2.5.29.17', sequence(taggedBytes(2, Buffer.from(name, 'latin1'))));
      return {
        leaf: certificate(issuer, nameOf(name), own.publicKey, [altNames]),
        privateKey: String(own.privateKey.export({ type: 'pkcs8', format: 'pem' })),
      };
    },
  };
}

interface Issuer {
  readonly name: Asn1;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** RFC 5280 §4.1, signed with ECDSA and SHA-256. */
function certificate(issuer: Issuer, subject: Asn1, publicKey: KeyObject, extensions: readonly Asn1[]): string {
  const algorithm = sequence(objectId('1.2.840.10045.4.3.2'));
  const serial = Buffer.concat([Buffer.of(1), randomBytes(15)]); // a first byte that keeps the number positive
  const now = systemClock.now();
  const body = sequence(
    tagged(0, integer(2)),
    integer(serial),
    algorithm,
    issuer.name,
    sequence(time(now - day), time(now + 90 * day)),
    subject,
    decode(spkiOf(publicKey)),
    tagged(3, sequence(...extensions, extension('2.5.29.35', sequence(taggedBytes(0, keyIdOf(issuer.publicKey)))))),
  );
  const signature = sign('sha256', encode(body), issuer.privateKey);
  const whole = encode(sequence(body, algorithm, primitive(Type.BITSTRING, `\0${signature.toString('binary')}`)));
  return `-----BEGIN CERTIFICATE-----\n${whole.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`;
}

const primitive = (type: forge.asn1.Type, bytes: string): Asn1 => asn1.create(Class.UNIVERSAL, type, false, bytes);
const spkiOf = (key: KeyObject): Buffer => key.export({ type: 'spki', format: 'der' });
const keyIdOf = (key: KeyObject): Buffer => createHash('sha1').update(spkiOf(key)).digest();
const time = (ms: number): Asn1 => primitive(Type.UTCTIME, String(asn1.dateToUtcTime(new Date(ms))));

function nameOf(commonName: string): Asn1 {
  return sequence(setOf(sequence(objectId('2.5.4.3'), primitive(Type.UTF8, commonName))));
}

function extension(id: string, value: Asn1, critical = false): Asn1 {
  const mark = critical ? [primitive(Type.BOOLEAN, '\xff')] : [];
  return sequence(objectId(id), ...mark, octetString(encode(value)));
}
