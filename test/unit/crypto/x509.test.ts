import { createHash, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { checkIssued, describeCertificate, type IssuedCheck, isSelfSigned, splitChain } from '#libs/crypto/x509';
import { createRootCa, type LeafOptions } from '../../../services/lab/certificate-authority.ts';

const minute = 60_000;
const from = Date.UTC(2026, 2, 1);
const until = Date.UTC(2026, 4, 30);
const names = ['www.example.com', '*.example.com'];

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const privateKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const root = createRootCa();
const intermediate = root.intermediate('Test Intermediate', { key: 'rsa' });
const issue = (changes: Partial<LeafOptions> = {}) =>
  intermediate.issue({ key: privateKeyPem, names, notBefore: from, notAfter: until, ...changes });

const check = (changes: Partial<IssuedCheck> = {}) =>
  checkIssued({
    ...{ chainPem: issue() + intermediate.chainPem, names, privateKeyPem, requestTaken: false, now: from + minute },
    ...changes,
  });

const mismatch = expect.objectContaining({ code: 'certificate_mismatch' });
const badChain = expect.objectContaining({ code: 'chain_invalid' });

describe('the description of a certificate', () => {
  test('gives what Windows and the record need, in their spelling', () => {
    const pem = issue({ names: ['WWW.Example.com', '*.example.com'] });
    const der = new X509Certificate(pem).raw;
    expect(describeCertificate(pem + intermediate.chainPem)).toEqual({
      names,
      serial: expect.stringMatching(/^[0-9A-F]{32}$/),
      thumbprint: createHash('sha1').update(der).digest('hex').toUpperCase(),
      issuer: 'CN=Test Intermediate',
      notBefore: from,
      notAfter: until,
      keyType: 'ec-p384',
    });
  });

  test('reads a name with a comma as one name', () => {
    expect(describeCertificate(issue({ names: ['a.example, DNS:b.example'] })).names).toEqual([
      'a.example, dns:b.example',
    ]);
  });

  test.each(['', 'no certificate', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'])(
    'is refused for %j',
    (text) => {
      expect(() => describeCertificate(text)).toThrow(badChain);
    },
  );
});

describe('a PEM chain', () => {
  test('is split into its certificates, whatever stands between them and however its lines end', () => {
    const leaf = issue();
    const text = `Subject: leaf\n${leaf.replaceAll('\n', '\r\n')}\n\n# next\n${intermediate.certificatePem.trimEnd()}`;
    expect(splitChain(text)).toEqual([leaf, intermediate.certificatePem]);
  });

  test('tells a root from an intermediate', () => {
    expect(isSelfSigned(new X509Certificate(root.certificatePem))).toBe(true);
    expect(isSelfSigned(new X509Certificate(intermediate.certificatePem))).toBe(false);
  });
});

describe('an issued certificate', () => {
  test('passes with its intermediate, with the root as well, and alone', () => {
    const leaf = issue();
    const chain = leaf + intermediate.chainPem;
    expect(check({ chainPem: chain })).toEqual(describeCertificate(leaf));
    expect(check({ chainPem: chain + root.certificatePem })).toEqual(describeCertificate(leaf));
    expect(check({ chainPem: leaf })).toEqual(describeCertificate(leaf));
  });

  test('passes with the names in another order and the public half of the key', () => {
    const publicPem = createPublicKey(privateKeyPem).export({ type: 'spki', format: 'pem' }).toString();
    expect(() => check({ names: [...names].reverse(), privateKeyPem: publicPem })).not.toThrow();
  });

  test('is refused if it is for another key: as that of another order, or as an error of a CA that took the request', () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
    expect(() => check({ chainPem: issue({ key: other }) })).toThrow(
      expect.objectContaining({ code: 'acme_order_taken', plan: { kind: 'restart', free: true } }),
    );
    expect(() => check({ chainPem: issue({ key: other }), requestTaken: true })).toThrow(
      expect.objectContaining({ code: 'certificate_mismatch', plan: { kind: 'restart', attempts: 2 } }),
    );
  });

  test.each([
    ['lacks a name', [...names, 'more.example.com'], 'more.example.com'],
    ['has a name more', names.slice(0, 1), '*.example.com'],
  ])('is refused if it %s, and says which', (_what, asked, named) => {
    expect(() => check({ names: asked })).toThrow(mismatch);
    expect(() => check({ names: asked })).toThrow(named);
  });

  test('is refused if it has an address beside its names', () => {
    expect(() => check({ chainPem: issue({ addresses: [Buffer.of(10, 0, 0, 1)] }) })).toThrow(mismatch);
  });

  test('may begin twelve hours in the future, by a clock of ours that is wrong, but not later', () => {
    expect(() => check({ now: from - 720 * minute })).not.toThrow();
    expect(() => check({ now: from - 720 * minute - 1 })).toThrow(mismatch);
  });

  test('is refused from the moment it expires', () => {
    expect(() => check({ now: until - 1 })).not.toThrow();
    expect(() => check({ now: until })).toThrow(mismatch);
  });

  test('is refused if it is the certificate of a CA', () => {
    expect(() => check({ chainPem: issue({ ca: true }) })).toThrow(mismatch);
  });

  test.each([
    ['has nothing in it', ''],
    ['leaves out a link', issue() + root.certificatePem],
    ['has its links in the wrong order', issue() + root.certificatePem + intermediate.certificatePem],
    ['ends in a stranger', issue() + intermediate.chainPem + createRootCa('Other').certificatePem],
    ['has something unreadable in it', `${issue()}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`],
  ])('is refused if its chain %s', (_what, chainPem) => {
    expect(() => check({ chainPem })).toThrow(badChain);
  });

  test('is refused if its issuer only bears the right name', () => {
    const impostor = createRootCa('Test Intermediate', { key: 'rsa' });
    expect(() => check({ chainPem: issue() + impostor.certificatePem })).toThrow(badChain);
  });

  test('is refused if its issuer only has the right key', () => {
    const namesake = root.intermediate('Other Intermediate', { key: intermediate.privateKey });
    expect(() => check({ chainPem: issue() + namesake.certificatePem })).toThrow('not the issuer of certificate 1');
  });

  test('is refused if its signature was changed', () => {
    const der = new X509Certificate(issue()).raw;
    der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1);
    const forged = `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
    expect(() => check({ chainPem: forged + intermediate.chainPem })).toThrow('signature of certificate 1');
  });

  test('is refused if its issuer is no CA', () => {
    const plain = root.intermediate('Test Plain', { ca: false });
    const leaf = plain.issue({ key: privateKeyPem, names, notBefore: from, notAfter: until });
    expect(() => check({ chainPem: leaf + plain.certificatePem })).toThrow('not a CA');
  });
});
