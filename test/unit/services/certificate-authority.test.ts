import { createPrivateKey, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createRootCa } from '../../../services/lab/certificate-authority.ts';

describe('the CA of the lab', () => {
  it.each(['ec', 'rsa'] as const)('makes certificates that hold up to its root, with a key of type %s', (key) => {
    const root = createRootCa('Root', { key });
    const issuer = root.intermediate('Issuer', { key });
    const options = { names: ['www.example.com', '*.example.org'], addresses: [Buffer.of(127, 0, 0, 1)] };
    const { certificatePem, privateKeyPem } = issuer.issueWithKey(options);
    const [leaf, above, top] = [certificatePem, issuer.chainPem, root.certificatePem].map(
      (pem) => new X509Certificate(pem),
    );
    if (!leaf || !above || !top) throw new Error('three were made');
    expect(leaf.checkPrivateKey(createPrivateKey(privateKeyPem))).toBe(true);
    expect(leaf.subjectAltName).toBe('DNS:www.example.com, DNS:*.example.org, IP Address:127.0.0.1');
    expect([leaf.ca, above.ca, top.ca]).toEqual([false, true, true]);
    expect([leaf.checkIssued(above), above.checkIssued(top), top.checkIssued(top)]).toEqual([true, true, true]);
    expect([leaf.verify(above.publicKey), above.verify(top.publicKey), top.verify(top.publicKey)]).toEqual([
      ...[true, true, true],
    ]);
    expect(root.chainPem).toBe('');
  });

  it('gives no two certificates the same key or serial number', () => {
    const root = createRootCa();
    const made = Array.from({ length: 20 }, () => root.issueWithKey({ names: ['www.example.com'] }));
    expect(new Set(made.map(({ privateKeyPem }) => privateKeyPem)).size).toBe(20);
    expect(new Set(made.map(({ certificatePem }) => new X509Certificate(certificatePem).serialNumber)).size).toBe(20);
  });
});
