import { generateKeyPairSync } from 'node:crypto';
import { describeCertificate } from '#libs/crypto/x509';
import type { DeployableCertificate } from '#libs/targets/certificate-target';
import { createTestRoot } from './test-ca.ts';

const root = createTestRoot();
const intermediate = root.intermediate('Test Intermediate');
let made = 0;

/** A certificate with its key and intermediate, as a target is given one; each with a key of its own. */
export function deployable(...names: string[]): DeployableCertificate {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const privateKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const chainPem = intermediate.issue({ key: privateKey, names }) + intermediate.chainPem;
  const { thumbprint, serial, notAfter } = describeCertificate(chainPem);
  made += 1;
  return { id: `crt_${made}`, names, thumbprint, serial, notAfter, privateKeyPem, chainPem };
}

/** What a deployment is told besides the certificate. */
export const inContext = (
  deployment = 'ord_1.1',
  signal: AbortSignal = new AbortController().signal,
): { deployment: string; signal: AbortSignal } => ({ deployment, signal });
