import { X509Certificate } from 'node:crypto';
import { CertlineError, type Plan } from '../errors.ts';
import type { KeyType } from '../model/certificate.ts';
import { type Asn1, bytesOf, decode, isTagged, objectIdOf, partsOf } from './der.ts';
import { keyTypeOf, publicKeyOf } from './private-key.ts';

const subjectAltNameId = '2.5.29.17';
/** `[3] Extensions` of TBSCertificate, RFC 5280 §4.1. */
const extensionsTag = 3;
/** `[2] dNSName` of GeneralName, RFC 5280 §4.2.1.6. */
const dnsName = 2;

/**
 * How far our clock may be behind the CA's, in ms: a certificate that seems to begin in the future is more likely a clock of ours that was set
 * wrong than a fault of the CA, and would be issued again for nothing.
 */
const clockSkew = 12 * 3_600_000;

/** What the record of a certificate says about it. Times are ms since the epoch. */
export interface CertificateDescription {
  /** The DNS names of its subjectAltName, in lower case and in its order. */
  names: string[];
  /** Upper-case hexadecimal. */
  serial: string;
  /** SHA-1 of the DER, 40 upper-case hexadecimal digits without colons: the name Windows gives a certificate. */
  thumbprint: string;
  /** For people: `C=US, O=Let's Encrypt, CN=R11`. */
  issuer: string;
  notBefore: number;
  notAfter: number;
  /** Undefined for a key of a kind certline does not make. */
  keyType: KeyType | undefined;
}

export interface IssuedCheck {
  /** The leaf first, as RFC 8555 §9.1 orders a chain; a root at the end is allowed. */
  chainPem: string;
  /** The names asked for, in lower case, in any order. */
  names: readonly string[];
  /** PEM of the key the request was signed with; its public half does as well. */
  privateKeyPem: string;
  /** Whether the CA said just now that it takes our request for this ACME order. */
  requestTaken: boolean;
  /** Ms since the epoch. */
  now: number;
}

/** The certificates of a PEM file, each with its markers and a final newline; other things in it are left out. */
export function splitChain(pem: string): string[] {
  const block = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;
  return (pem.match(block) ?? []).map((text) => `${text.replaceAll('\r', '')}\n`);
}

/** @throws CertlineError `chain_invalid` if one of the certificates cannot be read. */
export function parseChain(pem: string): X509Certificate[] {
  return splitChain(pem).map((text, index) => {
    try {
      return new X509Certificate(text);
    } catch (cause) {
      throw new CertlineError('chain_invalid', `Certificate ${index + 1} of the chain cannot be read`, { cause });
    }
  });
}

/**
 * What the first certificate of a PEM text says.
 *
 * @throws CertlineError `chain_invalid` if there is none or it cannot be read.
 */
export function describeCertificate(pem: string): CertificateDescription {
  const [leaf] = splitChain(pem);
  const [certificate] = parseChain(leaf ?? '');
  if (certificate === undefined) throw new CertlineError('chain_invalid', 'There is no certificate');
  return describe(certificate);
}

/** Whether a certificate names itself as its issuer and bears its own signature. */
export function isSelfSigned(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey);
}

/**
 * Checks that what a CA gave out is what was asked for, before anything is deployed.
 * Whether the root is trusted is not asked: the CA was chosen by whoever made the account.
 *
 * @returns the description of the leaf.
 * @throws CertlineError `acme_order_taken`: it is for another key, which another order of ours may have asked for.
 * @throws CertlineError `certificate_mismatch`: it is for another key than the request, the names differ, it is not valid now, or it is a CA's.
 * @throws CertlineError `chain_invalid`: no certificate, one that cannot be read, or one that the next did not sign.
 */
export function checkIssued(check: IssuedCheck): CertificateDescription {
  const chain = parseChain(check.chainPem);
  const [leaf, ...issuers] = chain;
  if (leaf === undefined) throw new CertlineError('chain_invalid', 'There is no certificate');
  const description = describe(leaf);
  checkLeaf(leaf, description, check);
  let subject = leaf;
  for (const [index, issuer] of issuers.entries()) {
    checkLink(subject, issuer, index + 1);
    subject = issuer;
  }
  return description;
}

function checkLeaf(leaf: X509Certificate, description: CertificateDescription, check: IssuedCheck): void {
  if (!leaf.publicKey.equals(publicKeyOf(check.privateKeyPem))) {
    // Some CAs answer the request for an ACME order that another request has finalized as though it were new. One more ACME order tells: a CA that
    // mixes keys up would answer all of them so, each with another certificate to no use.
    if (check.requestTaken)
      throw mismatch('The certificate is for another key than the request', description, {
        kind: 'restart',
        attempts: 2,
      });
    // Let's Encrypt gives an identical newOrder the ACME order that is open already: another order of ours may have finalized it.
    throw new CertlineError('acme_order_taken', 'the certificate of the ACME order is for another key', {
      plan: { kind: 'restart', free: true },
      evidence: { serial: description.serial, names: description.names },
    });
  }
  if (leaf.ca) throw mismatch('The certificate is the one of a CA', description);

  const asked = new Set(check.names.map((name) => name.toLowerCase()));
  const given = new Set(description.names);
  const missing = [...asked].filter((name) => !given.has(name));
  const extra = [...given].filter((name) => !asked.has(name));
  if (missing.length > 0) throw mismatch(`The certificate lacks ${missing.join(', ')}`, description);
  if (extra.length > 0) throw mismatch(`The certificate has names nobody asked for: ${extra.join(', ')}`, description);
  if (alternativeNames(leaf).hasOthers) throw mismatch('The certificate has names that are not DNS names', description);

  if (check.now < description.notBefore - clockSkew) throw mismatch('The certificate is not valid yet', description);
  if (check.now >= description.notAfter) throw mismatch('The certificate has expired', description);
}

/** `position` counts from 1 at the leaf. */
function checkLink(subject: X509Certificate, issuer: X509Certificate, position: number): void {
  const link = `certificate ${position} of the chain`;
  const evidence = {
    issuer: oneLine(subject.issuer),
    next: oneLine(issuer.subject),
  };
  // checkIssued() compares names, key identifiers and key usage (X509_check_issued), but neither the signature nor the CA flag.
  if (!subject.checkIssued(issuer))
    throw new CertlineError('chain_invalid', `The next certificate is not the issuer of ${link}`, { evidence });
  if (!issuer.ca) throw new CertlineError('chain_invalid', `The issuer of ${link} is not a CA`, { evidence });
  if (!subject.verify(issuer.publicKey))
    throw new CertlineError('chain_invalid', `The signature of ${link} does not hold`, { evidence });
}

function mismatch(detail: string, description: CertificateDescription, plan?: Plan): CertlineError {
  const { names, serial, issuer, notBefore, notAfter } = description;
  return new CertlineError('certificate_mismatch', detail, {
    evidence: { names, serial, issuer, notBefore, notAfter },
    ...(plan ? { plan } : {}),
  });
}

/** What `describeCertificate` says, of a certificate that was parsed before. */
function describe(certificate: X509Certificate): CertificateDescription {
  return {
    names: alternativeNames(certificate).dnsNames,
    serial: certificate.serialNumber.toUpperCase(),
    thumbprint: certificate.fingerprint.replaceAll(':', ''),
    issuer: oneLine(certificate.issuer),
    notBefore: certificate.validFromDate.getTime(),
    notAfter: certificate.validToDate.getTime(),
    keyType: keyTypeOf(certificate.publicKey),
  };
}

/**
 * The subjectAltName (RFC 5280 §4.2.1.6), read from the DER:
 * the text that node makes of it quotes unusual names in a way of its own.
 */
function alternativeNames(certificate: X509Certificate): {
  /** In lower case and in the certificate's order. */
  dnsNames: string[];
  /** Whether there are names of other kinds: addresses, URIs and so on. */
  hasOthers: boolean;
} {
  const names = partsOf(extensionValue(certificate, subjectAltNameId));
  const dnsNames = names.filter((name) => isTagged(name, dnsName));
  return {
    dnsNames: dnsNames.map((name) => bytesOf(name).toString('latin1').toLowerCase()),
    hasOthers: dnsNames.length < names.length,
  };
}

/** The decoded value of an extension, by its object identifier. */
export function extensionValue(certificate: X509Certificate, oid: string): Asn1 | undefined {
  const [tbsCertificate] = partsOf(decode(certificate.raw));
  const wrapper = partsOf(tbsCertificate).find((part) => isTagged(part, extensionsTag));
  for (const extension of partsOf(partsOf(wrapper)[0])) {
    const parts = partsOf(extension);
    // SEQUENCE { extnID, critical DEFAULT FALSE, extnValue }: the value is the last part.
    if (objectIdOf(parts[0]) === oid) return decode(bytesOf(parts.at(-1)));
  }
  return undefined;
}

/** `C=US\nO=Example` of node as one line; an empty name is an empty string. */
function oneLine(name: string | undefined): string {
  return (name ?? '').replaceAll('\n', ', ');
}
