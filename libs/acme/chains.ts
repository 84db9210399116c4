import { X509Certificate } from 'node:crypto';

const pemBlocks = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/**
 * The certificates of an application/pem-certificate-chain body (RFC 8555 §9.1), each in PEM, leaf first. Anything between them is dropped
 * (§11.4: a body may hold what is not a certificate). Empty when one of them, or all, cannot be read.
 */
export function readChain(body: string): string[] {
  const blocks = body.match(pemBlocks) ?? [];
  try {
    for (const block of blocks) new X509Certificate(block);
  } catch {
    return [];
  }
  return blocks.map((block) => block.replaceAll('\r', ''));
}

/** A chain as one PEM text. */
export const joinChain = (chain: readonly string[]) => `${chain.join('\n')}\n`;

const commonName = (subject: string) => /^CN=(.*)$/m.exec(subject)?.[1];

/** Whether a chain is the wanted one: by the CN of the issuer of its last certificate, or of any CA certificate in it. */
export function isChainOf(chain: readonly string[], name: string): boolean {
  const certificates = chain.map((pem) => new X509Certificate(pem));
  const top = certificates.at(-1);
  if (top && commonName(top.issuer) === name) return true;
  return certificates.slice(1).some((certificate) => commonName(certificate.subject) === name);
}
