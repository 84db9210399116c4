import { describe, expect, test } from 'vitest';
import { generatePrivateKey, publicKeyOf } from '#libs/crypto/private-key';
import { createSigningRequest } from '#libs/crypto/signing-request';
import { readTestRequest } from '../../support/test-request.ts';

const label = 'a'.repeat(50);

describe('a signing request', () => {
  test.each(['rsa-2048', 'ec-p256', 'ec-p384'] as const)(
    'is signed with its %s key and asks for all names',
    async (type) => {
      const key = await generatePrivateKey(type);
      const names = ['www.example.com', '*.example.com', 'example.com'];
      const request = readTestRequest(await createSigningRequest(key, names));
      expect(request.names).toEqual(names);
      expect(request.publicKey.equals(publicKeyOf(key))).toBe(true);
    },
  );

  test.each([
    ['of 64 characters', `${label}.${'b'.repeat(9)}.org`],
    ['with a wildcard', '*.example.com'],
  ])('has a first name %s as its common name', async (_what, name) => {
    const key = await generatePrivateKey('ec-p256');
    const request = readTestRequest(await createSigningRequest(key, [name, 'b.example']));
    expect(request).toMatchObject({ commonName: name, names: [name, 'b.example'] });
  });

  test('has no common name if the first name is longer than 64 characters', async () => {
    const key = await generatePrivateKey('ec-p256');
    const name = `${label}.${'b'.repeat(10)}.org`;
    expect(name).toHaveLength(65);
    const request = readTestRequest(await createSigningRequest(key, [name, 'b.example']));
    expect(request).toMatchObject({ commonName: undefined, names: [name, 'b.example'] });
  });

  test('leaves the array of names as it was', async () => {
    const names = Object.freeze(['a.example', 'b.example']);
    await createSigningRequest(await generatePrivateKey('ec-p256'), names);
    expect(names).toEqual(['a.example', 'b.example']);
  });

  test('is refused without names', async () => {
    const key = await generatePrivateKey('ec-p256');
    await expect(createSigningRequest(key, [])).rejects.toThrow('at least one name');
  });
});
