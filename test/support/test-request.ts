/** Reads PKCS#10 requests (RFC 2986) as a CA does. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import { type Asn1, bytesOf, decode, encode, isTagged, objectIdOf, partsOf } from '#libs/crypto/der';

const ecdsaWithSha384 = '1.2.840.10045.4.3.3';
const extensionRequest = '1.2.840.113549.1.9.14';
const subjectAltName = '2.5.29.17';

export interface TestRequest {
  commonName: string | undefined;
  names: string[];
  publicKey: KeyObject;
}

/** Reads a PKCS#10 request. @throws Error if its signature does not hold. */
export function readTestRequest(der: Buffer): TestRequest {
  const [info, algorithm, signature] = partsOf(decode(der));
  const [, subject, spki, attributes] = partsOf(info);
  if (info === undefined || spki === undefined) throw new Error('not a signing request');
  const publicKey = createPublicKey({ key: encode(spki), format: 'der', type: 'spki' });
  const hash = objectIdOf(partsOf(algorithm)[0]) === ecdsaWithSha384 ? 'sha384' : 'sha256';
  const bits = signature as (Asn1 & { bitStringContents?: string }) | undefined;
  const signed = Buffer.from(bits?.bitStringContents ?? '', 'binary').subarray(1);
  if (!verify(hash, encode(info), publicKey, signed)) throw new Error('the signature of the request does not hold');

  const attribute = partsOf(attributes).find((part) => objectIdOf(partsOf(part)[0]) === extensionRequest);
  const extensions = partsOf(partsOf(partsOf(attribute)[1])[0]);
  const altNames = extensions.find((part) => objectIdOf(partsOf(part)[0]) === subjectAltName);
  const generalNames = partsOf(decode(bytesOf(partsOf(altNames).at(-1))));
  const commonNames = partsOf(subject).map((rdn) => partsOf(partsOf(rdn)[0])[1]);
  return {
    commonName: commonNames.length === 0 ? undefined : bytesOf(commonNames[0]).toString('utf8'),
    names: generalNames.filter((name) => isTagged(name, 2)).map((name) => bytesOf(name).toString('latin1')),
    publicKey,
  };
}
