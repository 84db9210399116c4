import { crypto as acmeCrypto } from 'acme-client';
import type { SigningRequest } from './signing-request.ts';

/** `ub-common-name` of RFC 5280 appendix A.1: a CA refuses a longer common name, though a host name may have 253 characters. */
const longestCommonName = 64;

/** The work of `createSigningRequest`, on its thread. acme-client makes no key when it is given one. */
export default async function makeSigningRequest({ privateKeyPem, names }: SigningRequest): Promise<Buffer> {
  const [first] = names;
  if (first === undefined) throw new Error('a signing request needs at least one name');
  const altNames = [...names];
  const [, request] = await acmeCrypto.createCsr(
    first.length <= longestCommonName ? { commonName: first, altNames } : { altNames },
    privateKeyPem,
  );
  return Buffer.from(acmeCrypto.getPemBodyAsB64u(request), 'base64url');
}
