import { describeCertificate } from '#libs/crypto/x509';
import type { DeployableCertificate } from '#libs/targets/certificate-target';
import { createRootCa } from '../../services/lab/certificate-authority.ts';

const root = createRootCa();
const intermediate = root.intermediate('Test Intermediate');
let made = 0;

/** A certificate with its key and intermediate, as a target is given one; each with a key of its own. */
export function deployable(...names: string[]): DeployableCertificate {
  const { certificatePem, privateKeyPem } = intermediate.issueWithKey({ names });
  const chainPem = certificatePem + intermediate.chainPem;
  const { thumbprint, serial, notAfter } = describeCertificate(chainPem);
  made += 1;
  return { id: `crt_${made}`, names, thumbprint, serial, notAfter, privateKeyPem, chainPem };
}

/** What a deployment is told besides the certificate. */
export const inContext = (
  deployment = 'ord_1.1',
  signal: AbortSignal = new AbortController().signal,
): { deployment: string; signal: AbortSignal } => ({ deployment, signal });
