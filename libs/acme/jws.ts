import {
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  sign,
} from 'node:crypto';
import { promisify } from 'node:util';
import { CertlineError } from '#libs/errors';

/** A public key as RFC 7517 writes it; account keys of ours are always EC P-256. */
export type PublicJwk = { kty: 'EC'; crv: string; x: string; y: string } | { kty: 'RSA'; n: string; e: string };

/** An external account binding (RFC 8555 §7.3.4) as the CA's site shows it. */
export interface ExternalAccountBinding {
  kid: string;
  /** The MAC key in base64url; plain base64 is taken too, for some CAs print that. */
  hmacKey: string;
}

const base64url = (data: string | Uint8Array) => Buffer.from(data).toString('base64url');

/** A flattened JSON JWS (RFC 7515 §7.2.2) over a payload; `signing` makes the signature of the signing input. */
export function flattenedJws(header: Record<string, unknown>, payload: string, signing: (input: Buffer) => Buffer) {
  const protectedHeader = base64url(JSON.stringify(header));
  const encodedPayload = base64url(payload);
  const input = Buffer.from(`${protectedHeader}.${encodedPayload}`, 'ascii');
  return {
    protected: protectedHeader,
    payload: encodedPayload,
    signature: base64url(signing(input)),
  };
}

/** HMAC SHA-256, the signature of `HS256`. */
export const hs256 = (key: Buffer) => (input: Buffer) => createHmac('sha256', key).update(input).digest();

/** SHA-256 over the required members of a JWK in their order, base64url (RFC 7638 §3). */
export function jwkThumbprint(jwk: PublicJwk): string {
  const members =
    jwk.kty === 'EC' ? { crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y } : { e: jwk.e, kty: jwk.kty, n: jwk.n };
  return createHash('sha256').update(JSON.stringify(members)).digest('base64url');
}

/** A new account key: P-256, PKCS#8 PEM. */
export async function generateAccountKey(): Promise<string> {
  const pair = await promisify(generateKeyPair)('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return pair.privateKey;
}

/** An account key at work. */
export interface AccountSigner {
  readonly jwk: PublicJwk;
  readonly thumbprint: string;
  /**
   * The body of a request (RFC 8555 §6.2): ES256, named by `kid` (the account URL) or, where it is null, by the key itself.
   * A null payload is a POST-as-GET (§6.3).
   */
  signRequest(request: { url: string; nonce: string; kid: string | null; payload: unknown }): string;
  /**
   * The value of `externalAccountBinding` for a newAccount (RFC 8555 §7.3.4).
   * @throws CertlineError `eab_refused` when the MAC key cannot be read
   */
  bindExternalAccount(newAccountUrl: string, eab: ExternalAccountBinding): object;
  /** The token and the key's thumbprint, as every challenge is answered (RFC 8555 §8.1). */
  keyAuthorization(token: string): string;
}

/**
 * The signer of an account key.
 * @throws CertlineError `secret_unreadable` when the PEM is no P-256 private key
 */
export function createAccountSigner(accountKeyPem: string): AccountSigner {
  // JOSE wants r and s side by side (RFC 7518 §3.4), OpenSSL gives DER by itself. The key carries that itself: for an object
  // around a key, Node 24 takes as long again as for the signature.
  const key = Object.assign(readKey(accountKeyPem), { dsaEncoding: 'ieee-p1363' } as const);
  const { x, y } = createPublicKey(key).export({ format: 'jwk' });
  const jwk: PublicJwk = { kty: 'EC', crv: 'P-256', x: x ?? '', y: y ?? '' };
  const thumbprint = jwkThumbprint(jwk);
  const es256 = (input: Buffer) => sign('sha256', input, key);
  return {
    jwk,
    thumbprint,
    signRequest({ url, nonce, kid, payload }) {
      const header = {
        alg: 'ES256',
        ...(kid === null ? { jwk } : { kid }),
        nonce,
        url,
      };
      const text = payload === null ? '' : JSON.stringify(payload);
      return JSON.stringify(flattenedJws(header, text, es256));
    },
    bindExternalAccount(newAccountUrl, { kid, hmacKey }) {
      const trimmed = hmacKey.trim();
      // node skips what it cannot decode, and a wrong MAC is a riddle to whoever pasted the key
      if (!/^[\w+/-]+=*$/.test(trimmed)) {
        throw new CertlineError('eab_refused', 'The HMAC key of the external account binding is not base64url.');
      }
      const header = { alg: 'HS256', kid, url: newAccountUrl };
      const mac = hs256(Buffer.from(trimmed, 'base64url'));
      return flattenedJws(header, JSON.stringify(jwk), mac);
    },
    keyAuthorization(token) {
      // it becomes a path and a file name: nothing outside of the alphabet of RFC 8555 §8.3 may pass
      if (!/^[\w-]+$/.test(token)) {
        throw new CertlineError('ca_protocol_error', 'The CA gave a challenge token that is not base64url.');
      }
      return `${token}.${thumbprint}`;
    },
  };
}

function readKey(pem: string): KeyObject {
  const refusal = 'The account key is not a P-256 private key in PEM.';
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch {
    // no cause: its message may quote the input
    throw new CertlineError('secret_unreadable', refusal);
  }
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new CertlineError('secret_unreadable', refusal);
  return key;
}
