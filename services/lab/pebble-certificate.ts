import { createPrivateKey, generateKeyPair, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import forge from 'node-forge';
import { systemClock } from '#libs/clock';

const DAY_MS = 86_400_000;

/** PEM texts. */
export interface ServerCertificate {
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
}

/** A certificate for 127.0.0.1 and localhost from a CA made for it alone, whose key is not kept. */
export async function makeServerCertificate(): Promise<ServerCertificate> {
  const [caKeys, keys] = await Promise.all([newKeys(), newKeys()]);
  const issuer = [{ name: 'commonName', value: `certline lab ${randomBytes(4).toString('hex')}` }];

  const ca = certificate(caKeys.publicKey, issuer, issuer);
  ca.setExtensions([
    { name: 'basicConstraints', cA: true, critical: true },
    { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    { name: 'subjectKeyIdentifier' },
  ]);
  ca.sign(caKeys.privateKey, forge.md.sha256.create());

  const leaf = certificate(keys.publicKey, [{ name: 'commonName', value: 'localhost' }], issuer);
  leaf.setExtensions([
    { name: 'basicConstraints', cA: false },
    { name: 'keyUsage', digitalSignature: true, keyEncipherment: true, critical: true },
    { name: 'extKeyUsage', serverAuth: true },
    {
      name: 'subjectAltName',
      altNames: [
        { type: 2, value: 'localhost' },
        { type: 7, ip: '127.0.0.1' },
      ],
    },
    { name: 'authorityKeyIdentifier', keyIdentifier: ca.generateSubjectKeyIdentifier().getBytes() },
  ]);
  leaf.sign(caKeys.privateKey, forge.md.sha256.create());

  return {
    ca: forge.pki.certificateToPem(ca),
    certificate: forge.pki.certificateToPem(leaf),
    privateKey: keys.pem,
  };
}

/** By Node, on a thread of its own: node-forge would compute for a second and more. */
async function newKeys(): Promise<{
  publicKey: forge.pki.rsa.PublicKey;
  privateKey: forge.pki.rsa.PrivateKey;
  pem: string;
}> {
  const pair = await promisify(generateKeyPair)('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const pkcs1 = createPrivateKey(pair.privateKey).export({ type: 'pkcs1', format: 'pem' }).toString();
  return {
    publicKey: forge.pki.publicKeyFromPem(pair.publicKey),
    privateKey: forge.pki.privateKeyFromPem(pkcs1),
    pem: pair.privateKey,
  };
}

function certificate(
  publicKey: forge.pki.rsa.PublicKey,
  subject: forge.pki.CertificateField[],
  issuer: forge.pki.CertificateField[],
): forge.pki.Certificate {
  const made = forge.pki.createCertificate();
  made.publicKey = publicKey;
  made.serialNumber = `01${randomBytes(15).toString('hex')}`; // a first byte that keeps the number positive
  made.validity.notBefore = new Date(systemClock.now() - DAY_MS);
  made.validity.notAfter = new Date(systemClock.now() + 30 * DAY_MS);
  made.setSubject(subject);
  made.setIssuer(issuer);
  return made;
}
