import type { X509Certificate } from 'node:crypto';
import { connect, type TLSSocket } from 'node:tls';
import { CertlineError } from '../errors.ts';
import { toAsciiName } from '../model/domain-name.ts';

/** What a TLS server showed of its certificate. */
export interface ServedCertificate {
  /** SHA-1 of the DER, upper-case hexadecimal. */
  thumbprint: string;
  issuer: string;
  /** Milliseconds since the epoch. */
  notAfter: number;
  /** As Node prints it (`DNS:a.example.com, DNS:b.example.com`); null without the extension. */
  subjectaltname: string | null;
}

function describe(certificate: X509Certificate): ServedCertificate {
  return {
    thumbprint: certificate.fingerprint.replaceAll(':', ''),
    issuer: certificate.issuer,
    notAfter: Date.parse(certificate.validTo),
    subjectaltname: certificate.subjectAltName ?? null,
  };
}

/** What is tried, for how long, and how errors tell of it. */
interface Attempt {
  /** In words, for a person. */
  where: string;
  evidence: Record<string, unknown>;
  timeoutMs: number;
  signal: AbortSignal;
}

/**
 * Runs `shake` within the time, and tells in our words what went wrong. `progress.connected` is to be set when there is a connection.
 *
 * @throws CertlineError `target_unreachable`, `handshake_mismatch`
 */
export async function withinTime<T>(
  { where, evidence, timeoutMs, signal }: Attempt,
  shake: (signal: AbortSignal, progress: { connected: boolean }) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const timeout = AbortSignal.timeout(timeoutMs);
  const progress = { connected: false };
  try {
    return await shake(AbortSignal.any([signal, timeout]), progress);
  } catch (cause) {
    signal.throwIfAborted();
    if (timeout.aborted) {
      throw new CertlineError('target_unreachable', `no TLS answer from ${where} in ${timeoutMs} ms`, { evidence });
    }
    const why = cause instanceof Error ? cause.message : String(cause);
    throw progress.connected
      ? new CertlineError('handshake_mismatch', `${where} breaks off the handshake: ${why}`, { evidence, cause })
      : new CertlineError('target_unreachable', `cannot connect to ${where}: ${why}`, { evidence, cause });
  }
}

/**
 * Shakes hands over TLS and tells which certificate is served. The chain is not verified: thumbprints are compared, and the chain was
 * checked when it was issued. `servername` is sent as SNI (RFC 6066 §3) in punycode; with null none is sent, as old clients do.
 *
 * @throws CertlineError `target_unreachable` when there is no connection, or no answer within `timeoutMs`.
 * @throws CertlineError `handshake_mismatch` when the server breaks the handshake off, as http.sys does where it has no certificate.
 * @throws the signal's reason when it is aborted.
 */
export function probeThumbprint(
  endpoint: { host: string; port: number },
  servername: string | null,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ServedCertificate> {
  const sni = servername === null ? '' : (toAsciiName(servername) ?? servername);
  const where = `${endpoint.host}:${endpoint.port}${sni === '' ? '' : ` (${sni})`}`;
  const attempt = { where, evidence: { ...endpoint, servername }, timeoutMs, signal };
  return withinTime(attempt, async (inTime, progress) => {
    const socket = connect({ ...endpoint, servername: sni, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
    socket.once('connect', () => {
      progress.connected = true;
    });
    try {
      return await servedBy(socket, inTime);
    } finally {
      socket.destroy();
    }
  });
}

/** The certificate that the other side of a TLS connection shows, once the handshake is done. */
export function servedBy(socket: TLSSocket, signal: AbortSignal): Promise<ServedCertificate> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    // A second error may follow the first while the socket is torn down: the listener stays, a settled promise ignores it.
    socket.on('error', reject);
    socket.once('close', () => {
      signal.removeEventListener('abort', abort);
      reject(new Error('the connection was closed'));
    });
    signal.addEventListener('abort', abort, { once: true });
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      if (certificate) resolve(describe(certificate));
      else reject(new Error('no certificate was sent'));
    });
  });
}
