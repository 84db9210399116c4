import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPfx } from '#libs/crypto/pfx';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { splitChain } from '#libs/crypto/x509';
import { createRootCa } from '../../services/lab/certificate-authority.ts';

const run = promisify(execFile);
const password = 'Pässwörd 𝄞 & "quotes"';
const friendlyName = 'Größe · 証明書 𝄞';

const claims = {
  'aes-256': {
    protection: 'PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256',
    mac: 'MAC: sha256, Iteration 2048',
  },
  '3des': {
    protection: 'pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048',
    mac: 'MAC: sha1, Iteration 2048',
  },
} as const;

const cases = (['rsa-2048', 'ec-p256', 'ec-p384'] as const).flatMap((keyType) =>
  (['aes-256', '3des'] as const).map((form) => ({ keyType, form })),
);

describe.each(cases)('a PFX of an $keyType key in the $form form', ({ keyType, form }) => {
  const root = createRootCa();
  const intermediate = root.intermediate('Test Intermediate');
  let folder: string;
  let file: string;
  let pfx: Buffer;
  let privateKeyPem: string;
  let leaf: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'certline-pfx-'));
    file = join(folder, 'test.pfx');
    privateKeyPem = await generatePrivateKey(keyType);
    leaf = intermediate.issue({ key: privateKeyPem, names: ['www.example.com', '*.example.com'] });
    const chainPem = leaf + intermediate.chainPem + root.certificatePem;
    pfx = await createPfx({ privateKeyPem, chainPem, password, friendlyName, form });
    await writeFile(file, pfx);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const openssl = (passphrase: string, ...options: string[]) =>
    run('openssl', ['pkcs12', '-in', file, '-passin', `pass:${passphrase}`, ...options]);

  test('gives back its key, its leaf and the intermediate', async () => {
    const { stdout } = await openssl(password, '-nodes');
    const key = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(stdout)?.[0];
    expect(key).toBe(privateKeyPem);
    expect(splitChain(stdout)).toEqual([leaf, intermediate.certificatePem]);
  });

  test('has the leaf and the key under one local key id', async () => {
    const { stdout } = await openssl(password, '-nodes');
    const ids = stdout.match(/localKeyID: .*/g);
    expect(ids).toHaveLength(2);
    expect(new Set(ids).size).toBe(1);
    expect(splitChain((await openssl(password, '-clcerts', '-nokeys')).stdout)).toEqual([leaf]);
  });

  test('is protected as it claims, all of it', async () => {
    const { stderr } = await openssl(password, '-info', '-noout');
    const { protection, mac } = claims[form];
    expect(stderr).toContain(mac);
    expect(stderr).toContain(`PKCS7 Encrypted data: ${protection}`);
    expect(stderr).toContain(`Shrouded Keybag: ${protection}`);
  });

  test.each(['wrong', `${password} `, ''])('is not opened by the password %j', async (wrong) => {
    await expect(openssl(wrong, '-noout')).rejects.toThrow(/invalid password|Mac verify error/i);
  });

  test('opens in a TLS context with its password only', () => {
    expect(() => createSecureContext({ pfx, passphrase: password })).not.toThrow();
    expect(() => createSecureContext({ pfx, passphrase: 'wrong' })).toThrow(/mac verify failure/i);
  });
});
