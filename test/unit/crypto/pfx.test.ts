import forge from 'node-forge';
import { describe, expect, test } from 'vitest';
import { createPfx, type PfxInput, pfxFormFor } from '#libs/crypto/pfx';
import { derivePkcs12, purpose } from '#libs/crypto/pkcs12-kdf';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { createRootCa } from '../../../services/lab/certificate-authority.ts';

const root = createRootCa();
const intermediate = root.intermediate('Test Intermediate');
const privateKeyPem = await generatePrivateKey('ec-p256');
const leaf = intermediate.issue({ key: privateKeyPem, names: ['www.example.com'] });
const input: PfxInput = {
  privateKeyPem,
  chainPem: leaf + intermediate.chainPem + root.certificatePem,
  password: 'a password',
  friendlyName: 'Grüße 𝄞',
  form: 'aes-256',
};

/** Read by node-forge, which knows nothing of our writer. */
function read(
  pfx: Buffer,
  password: string,
): { kind: string | undefined; name: string; localKeyId: string; der: string }[] {
  const parsed = forge.pkcs12.pkcs12FromAsn1(forge.asn1.fromDer(pfx.toString('binary')), password);
  return parsed.safeContents.flatMap(({ safeBags }) =>
    safeBags.map((bag) => ({
      kind: Object.entries(forge.pki.oids).find(([, oid]) => oid === bag.type)?.[0],
      name: bag.attributes.friendlyName?.[0],
      localKeyId: bag.attributes.localKeyId?.[0],
      der: Buffer.from(forge.asn1.toDer(bag.asn1).getBytes(), 'binary').toString('base64'),
    })),
  );
}

describe('the PFX form', () => {
  test.each([
    [9600, '3des'],
    [14_393, '3des'],
    [17_762, '3des'],
    [17_763, 'aes-256'],
    [20_348, 'aes-256'],
  ] as const)('for Windows build %i is %s', (build, form) => {
    expect(pfxFormFor(build)).toBe(form);
  });
});

describe('the key derivation of RFC 7292', () => {
  test.each([
    ['sha1', 'key', 24],
    ['sha1', 'iv', 8],
    ['sha1', 'mac', 20],
    ['sha256', 'mac', 32],
    ['sha256', 'key', 100],
  ] as const)('with %s for the %s gives the bytes that node-forge derives', async (hash, what, length) => {
    const password = 'pässword that is longer than a block of sixty-four bytes 𝄞';
    const salt = Buffer.from('00ff80fffefdfcfb1122334455667788', 'hex');
    const theirs = forge.pkcs12.generateKey(
      password,
      forge.util.createBuffer(salt.toString('binary')),
      purpose[what],
      100,
      length,
      hash === 'sha1' ? forge.md.sha1.create() : forge.md.sha256.create(),
    );
    const ours = await derivePkcs12({ password, salt, iterations: 100, purpose: purpose[what], length, hash });
    expect(ours.toString('hex')).toBe(theirs.toHex());
  });
});

describe('a PFX file', () => {
  test.each(['aes-256', '3des'] as const)(
    'in the %s form names the key and the leaf, and holds no root',
    async (form) => {
      const bags = read(await createPfx({ ...input, form }), input.password);
      const [first, second, third, ...rest] = bags;
      expect(first).toMatchObject({ kind: 'certBag', name: 'Grüße 𝄞', der: body(leaf) });
      expect(second).toMatchObject({ kind: 'certBag', name: undefined, der: body(intermediate.certificatePem) });
      expect(third).toMatchObject({ kind: 'pkcs8ShroudedKeyBag', name: 'Grüße 𝄞', der: body(privateKeyPem) });
      expect(third?.localKeyId).toBe(first?.localKeyId);
      expect(first?.localKeyId).toHaveLength(20);
      expect(rest).toEqual([]);
    },
  );

  test('keeps a self-signed leaf, which is not there to be trusted as a root', async () => {
    const own = createRootCa('own');
    const key = own.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    const pfx = await createPfx({ ...input, privateKeyPem: key, chainPem: own.certificatePem });
    expect(read(pfx, input.password).map(({ kind }) => kind)).toEqual(['certBag', 'pkcs8ShroudedKeyBag']);
  });

  test('has fresh salts each time', async () => {
    const [one, other] = await Promise.all([createPfx(input), createPfx(input)]);
    expect(one.equals(other)).toBe(false);
  });

  test('is refused for a key that is not that of the leaf', async () => {
    const other = await generatePrivateKey('ec-p256');
    await expect(createPfx({ ...input, privateKeyPem: other })).rejects.toMatchObject({ code: 'certificate_mismatch' });
  });

  test('is refused without a certificate and without a password', async () => {
    await expect(createPfx({ ...input, chainPem: '' })).rejects.toMatchObject({ code: 'chain_invalid' });
    await expect(createPfx({ ...input, password: '' })).rejects.toThrow('needs a password');
  });
});

const body = (pem: string): string => pem.replace(/-----[^-]+-----|\s/g, '');
