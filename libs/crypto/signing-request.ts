import { Piscina } from 'piscina';

/**
 * What makes one request with acme-client is a millisecond or two of ASN.1 in JavaScript, as much as all else that an issuance
 * computes: on a thread it holds up no other order. Started with the first request; it does not keep the process alive.
 */
const thread = new Piscina<SigningRequest, Uint8Array>({
  filename: new URL('./signing-request-thread.ts', import.meta.url).href,
  minThreads: 0,
  maxThreads: 1,
  concurrentTasksPerWorker: 16,
  idleTimeout: 60_000,
});

export interface SigningRequest {
  privateKeyPem: string;
  names: readonly string[];
}

/**
 * A PKCS#10 request (RFC 2986) for these names, signed with SHA-256 (P-384 keys: SHA-384).
 *
 * All names stand in the subjectAltName; the first is the common name too if it fits, else the subject is empty.
 *
 * @param privateKeyPem PKCS#8 PEM; acme-client imports no other form.
 * @param names Host names in lower case, A-labels, wildcards allowed; at least one.
 * @returns DER, as RFC 8555 §7.4 wants it (before base64url).
 * @throws Error if there are no names or the key cannot be read.
 */
export async function createSigningRequest(privateKeyPem: string, names: readonly string[]): Promise<Buffer> {
  return Buffer.from(await thread.run({ privateKeyPem, names }));
}
