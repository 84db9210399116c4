import { bytesOf, decode, isTagged, partsOf } from './der.ts';
import { extensionValue, parseChain } from './x509.ts';

const authorityKeyIdentifierId = '2.5.29.35';
/** `[0] keyIdentifier` of AuthorityKeyIdentifier, RFC 5280 §4.2.1.1. */
const keyIdentifier = 0;
/** `[0] version` of TBSCertificate, RFC 5280 §4.1; the serial number follows it. */
const version = 0;

/**
 * By what a CA knows a certificate in renewal information and in `replaces` (RFC 9773 §4.1): its authority key identifier and the bytes of its
 * serial number, leading zero and all. Null when it has no authority key identifier.
 *
 * @param pem of the certificate; what follows in it is not looked at
 * @throws CertlineError `chain_invalid` if it cannot be read
 */
export function renewalInfoId(pem: string): string | null {
  const [certificate] = parseChain(pem);
  if (certificate === undefined) return null;
  const key = partsOf(extensionValue(certificate, authorityKeyIdentifierId)).find((part) =>
    isTagged(part, keyIdentifier),
  );
  const [tbsCertificate] = partsOf(decode(certificate.raw));
  const serial = partsOf(tbsCertificate).find((part) => !isTagged(part, version));
  return key === undefined ? null : [key, serial].map((part) => bytesOf(part).toString('base64url')).join('.');
}
