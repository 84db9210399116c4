import { createPrivateKey } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { generatePrivateKey, keyTypeOf, publicKeyOf } from '#libs/crypto/private-key';
import type { KeyType } from '#libs/model/certificate';

// The larger RSA keys take seconds to make; they differ from the small one by a number.
const quickTypes = ['rsa-2048', 'ec-p256', 'ec-p384'] satisfies KeyType[];

describe('a generated private key', () => {
  test.each(quickTypes)('of type %s is PKCS#8 PEM of that type', async (type) => {
    const pem = await generatePrivateKey(type);
    expect(pem).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    expect(keyTypeOf(createPrivateKey(pem))).toBe(type);
  });

  test('leaves the event loop free while it is made', async () => {
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    await generatePrivateKey('rsa-3072');
    clearInterval(ticking);
    expect(turns).toBeGreaterThan(3);
  });

  test('gives the same public half from its PEM, its key object and its public PEM', async () => {
    const pem = await generatePrivateKey('ec-p256');
    const half = publicKeyOf(pem);
    const publicPem = half.export({ type: 'spki', format: 'pem' }).toString();
    expect(publicKeyOf(publicPem).equals(half)).toBe(true);
    expect(publicKeyOf(createPrivateKey(pem)).equals(half)).toBe(true);
    expect(publicKeyOf(half)).toBe(half);
  });
});
