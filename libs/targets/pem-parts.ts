import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { parseChain, splitChain } from '../crypto/x509.ts';
import { CertlineError } from '../errors.ts';
import type { PublicCertificate } from './certificate-target.ts';

export interface PemParts {
  leaf: X509Certificate;
  /** The leaf alone. */
  cert: string;
  /** What stands above the leaf; empty when nothing does. */
  chain: string;
  fullchain: string;
}

/**
 * The chain of a certificate in the parts that servers want. Only certificates come out of it, whatever else the text has.
 *
 * @throws CertlineError `chain_invalid` when it cannot be read, `certificate_mismatch` when its leaf is another certificate.
 */
export function pemParts({ chainPem, thumbprint }: Pick<PublicCertificate, 'chainPem' | 'thumbprint'>): PemParts {
  const [leaf] = parseChain(chainPem);
  const [cert, ...above] = splitChain(chainPem);
  if (leaf === undefined || cert === undefined) throw new CertlineError('chain_invalid', 'There is no certificate');
  const its = leaf.fingerprint.replaceAll(':', '');
  if (its !== thumbprint)
    throw new CertlineError('certificate_mismatch', `the chain is of ${its}, not of ${thumbprint}`);
  const chain = above.join('');
  return { leaf, cert, chain, fullchain: cert + chain };
}

/** Whether a PEM text is the private key of a certificate; false also for what is no key. */
export function isKeyOf(leaf: X509Certificate, privateKeyPem: string): boolean {
  try {
    return leaf.checkPrivateKey(createPrivateKey(privateKeyPem));
  } catch {
    return false;
  }
}
