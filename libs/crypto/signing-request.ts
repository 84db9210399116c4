import { crypto as acmeCrypto } from 'acme-client';

/** `ub-common-name` of RFC 5280 appendix A.1: a CA refuses a longer common name, though a host name may have 253 characters. */
const longestCommonName = 64;

/**
 * A PKCS#10 request (RFC 2986) for these names, signed with SHA-256 (P-384 keys: SHA-384).
 *
 * All names stand in the subjectAltName; the first is the common name too if it fits, else the subject is empty.
 * Nothing blocks: acme-client makes no key when it is given one, and signs with WebCrypto on libuv's threads.
 *
 * @param privateKeyPem PKCS#8 PEM; acme-client imports no other form.
 * @param names Host names in lower case, A-labels, wildcards allowed; at least one.
 * @returns DER, as RFC 8555 §7.4 wants it (before base64url).
 * @throws Error if there are no names or the key cannot be read.
 */
export async function createSigningRequest(privateKeyPem: string, names: readonly string[]): Promise<Buffer> {
  const [first] = names;
  if (first === undefined) throw new Error('a signing request needs at least one name');
  // acme-client keeps and changes the array that it is given: hand it a copy.
  const [, request] = await acmeCrypto.createCsr(
    first.length <= longestCommonName ? { commonName: first, altNames: [...names] } : { altNames: [...names] },
    privateKeyPem,
  );
  return Buffer.from(acmeCrypto.getPemBodyAsB64u(request), 'base64url');
}
