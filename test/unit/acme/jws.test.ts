import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createAccountSigner, flattenedJws, generateAccountKey, hs256, jwkThumbprint } from '#libs/acme/jws';

// RFC 7515 appendix A.3: an ES256 key
const rfc7515Key = {
  kty: 'EC',
  crv: 'P-256',
  x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
  y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
} as const;

const decode = (part: string) => JSON.parse(Buffer.from(part, 'base64url').toString());

describe('thumbprints', () => {
  test('an RSA key has the thumbprint of RFC 7638 §3.1', () => {
    const n =
      '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw';
    expect(jwkThumbprint({ kty: 'RSA', n, e: 'AQAB' })).toBe('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs');
  });

  test('an EC key is hashed by its required members alone', () => {
    const thumbprint = jwkThumbprint({ ...rfc7515Key, ...{ kid: 'x', use: 'sig' } });
    expect(thumbprint).toBe(jwkThumbprint(rfc7515Key));
    expect(thumbprint).toBe('oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U');
  });
});

test('an HS256 signature is that of RFC 7520 §4.4', () => {
  const payload =
    "It’s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't keep your feet, there’s no knowing where you might be swept off to.";
  const key = Buffer.from('hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg', 'base64url');
  const jws = flattenedJws({ alg: 'HS256', kid: '018c0ae5-4d9b-471b-bfd6-eef314bc7037' }, payload, hs256(key));
  expect(jws.signature).toBe('s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0');
});

describe('an account key', async () => {
  const pem = await generateAccountKey();
  const signer = createAccountSigner(pem);
  const publicKey = createPublicKey(pem);

  function read(body: string) {
    const jws = JSON.parse(body);
    const signed = verify(
      'sha256',
      Buffer.from(`${jws.protected}.${jws.payload}`),
      { key: publicKey, dsaEncoding: 'ieee-p1363' },
      Buffer.from(jws.signature, 'base64url'),
    );
    return { header: decode(jws.protected), payload: jws.payload, signed };
  }
  const request = { url: 'https://ca.example/order/1', nonce: 'n1' };

  test('is a PKCS#8 P-256 key', () => {
    expect(pem).toMatch(/^-----BEGIN PRIVATE KEY-----/);
    expect(signer.jwk).toMatchObject({ kty: 'EC', crv: 'P-256' });
  });

  test('signs in the name of the account, with nonce and URL protected', () => {
    const { header, payload, signed } = read(
      signer.signRequest({ ...request, kid: 'https://ca.example/a/1', payload: { a: 1 } }),
    );
    expect(header).toEqual({ alg: 'ES256', kid: 'https://ca.example/a/1', ...request });
    expect(decode(payload)).toEqual({ a: 1 });
    expect(signed).toBe(true);
  });

  test('signs with itself where the account is not known, and shows nothing private', () => {
    const { header, signed } = read(signer.signRequest({ ...request, kid: null, payload: {} }));
    expect(header).toEqual({ alg: 'ES256', jwk: signer.jwk, ...request });
    expect(Object.keys(header.jwk).sort()).toEqual(['crv', 'kty', 'x', 'y']);
    expect(signed).toBe(true);
  });

  test('reads with an empty payload, which is not an empty object', () => {
    expect(read(signer.signRequest({ ...request, kid: 'k', payload: null })).payload).toBe('');
    expect(decode(read(signer.signRequest({ ...request, kid: 'k', payload: {} })).payload)).toEqual({});
  });

  test('binds an external account by HS256 over its public key', () => {
    const hmacKey = Buffer.from('?>secret key of the CA', 'utf8');
    const eab = { kid: 'kid-1', hmacKey: hmacKey.toString('base64url') };
    const jws = signer.bindExternalAccount('https://ca.example/new', eab) as Record<string, string>;
    expect(decode(jws.protected ?? '')).toEqual({ alg: 'HS256', kid: 'kid-1', url: 'https://ca.example/new' });
    expect(decode(jws.payload ?? '')).toEqual(signer.jwk);
    const mac = hs256(hmacKey)(Buffer.from(`${jws.protected}.${jws.payload}`)).toString('base64url');
    expect(jws.signature).toBe(mac);
    // some CAs print the key in plain base64
    const base64 = { ...eab, hmacKey: ` ${hmacKey.toString('base64')}\n` };
    expect(signer.bindExternalAccount('https://ca.example/new', base64)).toEqual(jws);
  });

  test('refuses an HMAC key that is not base64', () => {
    const eab = { kid: 'k', hmacKey: 'not a key!' };
    expect(() => signer.bindExternalAccount('https://ca.example/new', eab)).toThrow(
      expect.objectContaining({ code: 'eab_refused' }),
    );
  });

  test('answers a token with its thumbprint', () => {
    expect(signer.keyAuthorization('abc-_1')).toBe(`abc-_1.${jwkThumbprint(signer.jwk)}`);
  });

  test('answers no token that leads out of a folder', () => {
    expect(() => signer.keyAuthorization('../../etc/passwd')).toThrow(
      expect.objectContaining({ code: 'ca_protocol_error' }),
    );
  });
});

test('a key of another kind is refused without a word of it', () => {
  const other = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  for (const pem of ['secret words', other.toString()]) {
    expect(() => createAccountSigner(pem)).toThrow(
      expect.objectContaining({ code: 'secret_unreadable', message: expect.not.stringContaining('secret words') }),
    );
  }
});
