import { CertlineError } from '#libs/errors';

/** OpenSSL's verdicts on a chain (X509_V_ERR_*) as node names them, and node's own on the host name. */
const untrusted = new Set([
  'CERT_CHAIN_TOO_LONG',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REJECTED',
  'CERT_REVOKED',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'HOSTNAME_MISMATCH',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'PATH_LENGTH_EXCEEDED',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY',
  'UNABLE_TO_DECRYPT_CERT_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** Something answered, but in no HTTP: a plain port asked for TLS, or the other way round. */
const isNotHttp = (code: string) => code.startsWith('HPE_') || code.startsWith('ERR_SSL_') || code === 'EPROTO';

/** The code of a system error; several addresses tried (happy eyeballs) give an AggregateError without one of its own. */
function codeOf(error: Error): string {
  if ('code' in error && typeof error.code === 'string') return error.code;
  if (!(error instanceof AggregateError)) return '';
  const first: unknown = error.errors[0];
  return first instanceof Error ? codeOf(first) : '';
}

/**
 * What kept a request from its answer, as our error: a chain that does not verify is `ca_untrusted` (permanent: no retry mends it),
 * an answer that is not HTTP `ca_protocol_error`, all else (DNS, refused, reset, timeout) `ca_unreachable`, retryable.
 * @param evidence what is known of the request; never its body
 */
export function transportError(thrown: unknown, url: string, evidence: Record<string, unknown> = {}): CertlineError {
  if (thrown instanceof CertlineError) return thrown;
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const code = codeOf(error);
  const host = new URL(url).host;
  const options = { evidence: { url, code, ...evidence }, cause: error };
  if (untrusted.has(code)) {
    return new CertlineError(
      'ca_untrusted',
      `The TLS certificate of ${host} does not verify: ${error.message} (${code}).`,
      options,
    );
  }
  if (isNotHttp(code)) {
    return new CertlineError('ca_protocol_error', `${host} does not answer in HTTP: ${error.message}`, options);
  }
  return new CertlineError('ca_unreachable', `${host} cannot be reached: ${error.message || code}`, options);
}
