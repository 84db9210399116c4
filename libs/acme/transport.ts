import http, { type IncomingHttpHeaders } from 'node:http';
import https from 'node:https';
import tls from 'node:tls';
import { CertlineError } from '#libs/errors';
import { readChain } from './chains.ts';
import { transportError } from './transport-errors.ts';

export interface TransportOptions {
  /** Version of certline for the User-Agent, which RFC 8555 §6.1 demands. */
  userAgentVersion: string;
  /** PEM certificates that are trusted besides the roots of the system. */
  caBundle: string | null;
  /** Lets http: URLs of the loopback interface through: for a CA that runs beside us. Everything else must be https (RFC 8555 §6.1). */
  plainHttp?: boolean;
  /** Longest time from the call to the last byte of the answer, in ms (30 s). */
  timeoutMs?: number;
  /** Most connections to one host (8). */
  maxSockets?: number;
}

export interface TransportRequest {
  method: 'GET' | 'HEAD' | 'POST';
  url: string;
  /** A JWS in its JSON form. */
  body?: string;
  accept?: string;
  signal?: AbortSignal | undefined;
}

export interface TransportAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface Transport {
  /**
   * The answer, whatever its status; redirects are not followed. A GET or HEAD is sent once more when a kept-alive connection breaks before the
   * answer; a POST never is, for the CA may have acted on it.
   * @throws CertlineError `ca_unreachable`, `ca_untrusted` or `ca_protocol_error`; the signal's reason when it is aborted
   */
  request(request: TransportRequest): Promise<TransportAnswer>;
  /** Closes every connection; requests under way fail. */
  close(): void;
}

const maxAnswerBytes = 1024 * 1024;

// Measured with 20 orders in flight, 7 requests each, certificates/s at a round trip of 30 ms (100 ms): 2 sockets 9 (3), 4 sockets 17 (6),
// 8 sockets 35 (11), 20 sockets 81 (27). Let's Encrypt allows one address about 35/s, so more than eight would only cost handshakes.
const defaultMaxSockets = 8;

// Below the idle limits of the usual front ends (60 to 75 s), so that we close first and meet fewer resets of reused connections.
const idleSocketMs = 30_000;

const isLoopback = (hostname: string) =>
  hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d{1,3}){3}$/.test(hostname);

/** Whether a URL is http: on the loopback interface. */
export function isPlainLoopback(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { protocol, hostname } = new URL(url);
  return protocol === 'http:' && isLoopback(hostname);
}

/** Made once for all connections: parsing the hundred and fifty roots for each would cost more than its handshake. */
function trustOf(caBundle: string): tls.SecureContext {
  // OpenSSL passes over what it cannot read, and the first connection would fail for it, with words that hide the cause
  const bundle = readChain(caBundle);
  if (bundle.length === 0)
    throw new CertlineError('ca_untrusted', 'The caBundle holds no PEM certificates that can be read.');
  return tls.createSecureContext({ ca: [...tls.getCACertificates('default'), ...bundle] });
}

/** HTTP/1.1 to one CA over a few kept-alive connections. Bodies are never logged. */
export function createTransport(options: TransportOptions): Transport {
  const timeoutMs = options.timeoutMs ?? 30_000;
  const userAgent = `certline/${options.userAgentVersion}`;
  const keepAlive = {
    keepAlive: true,
    maxSockets: options.maxSockets ?? defaultMaxSockets,
    timeout: idleSocketMs,
  };
  const secureAgent = new https.Agent({
    ...keepAlive,
    ...(options.caBundle === null ? {} : { secureContext: trustOf(options.caBundle) }),
  });
  const plainAgent = new http.Agent(keepAlive);

  function start(
    request: TransportRequest,
    onBroken: (error: CertlineError, reusedSocket: boolean) => void,
    onAnswer: (answer: TransportAnswer) => void,
  ): (reason: Error) => void {
    const url = new URL(request.url);
    const secure = url.protocol === 'https:';
    const sent = (secure ? https : http).request(url, {
      method: request.method,
      agent: secure ? secureAgent : plainAgent,
      headers: {
        'user-agent': userAgent,
        ...(request.accept === undefined ? {} : { accept: request.accept }),
        ...(request.body === undefined ? {} : { 'content-type': 'application/jose+json' }),
      },
    });
    let answered = false;
    const broken = (thrown: unknown) => {
      const reusedSocket = sent.reusedSocket && !answered;
      const evidence = { method: request.method, reusedSocket, answered };
      onBroken(transportError(thrown, request.url, evidence), reusedSocket);
    };
    sent.on('error', broken);
    sent.on('response', (response) => {
      answered = true;
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size <= maxAnswerBytes) return;
        const tooLarge = `${url.host} sends more than ${maxAnswerBytes} bytes.`;
        sent.destroy(
          new CertlineError('ca_protocol_error', tooLarge, {
            evidence: { url: request.url, status: response.statusCode },
          }),
        );
      });
      response.on('error', broken);
      response.on('end', () =>
        onAnswer({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks).toString('utf8'),
        }),
      );
    });
    sent.end(request.body);
    return (reason) => sent.destroy(reason);
  }

  return {
    request: (request) =>
      new Promise((resolve, reject) => {
        const { signal } = request;
        if (signal?.aborted) return reject(signal.reason);
        const refusal = refuse(request.url, options.plainHttp ?? false);
        if (refusal) return reject(refusal);
        let repeats = request.method === 'POST' ? 0 : 1;
        let settled = false;
        let destroy: (reason: Error) => void = () => {};
        const settle = (outcome: () => void) => {
          if (settled) return;
          settled = true;
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          outcome();
        };
        // Both settle before they destroy: a request that still waits for a socket tells of its end only when it gets one.
        const onAbort = () => {
          settle(() => reject(signal?.reason));
          destroy(new Error('aborted'));
        };
        const timer = setTimeout(() => {
          const words = `no answer within ${timeoutMs / 1000} s`;
          const error = Object.assign(new Error(words), { code: 'ETIMEDOUT' });
          settle(() => reject(transportError(error, request.url, { method: request.method })));
          destroy(error);
        }, timeoutMs);
        signal?.addEventListener('abort', onAbort, { once: true });
        const attempt = () => {
          destroy = start(
            request,
            (error, reusedSocket) => {
              if (reusedSocket && !settled && repeats-- > 0) return attempt();
              settle(() => reject(error));
            },
            (answer) => settle(() => resolve(answer)),
          );
        };
        attempt();
      }),
    close: () => {
      secureAgent.destroy();
      plainAgent.destroy();
    },
  };
}

/** Why a URL (most of them come from the CA) is not asked, or null. */
function refuse(url: string, plainHttp: boolean): CertlineError | null {
  if (URL.canParse(url) && new URL(url).protocol === 'https:') return null;
  if (plainHttp && isPlainLoopback(url)) return null;
  return new CertlineError('ca_protocol_error', `An ACME URL has to be https: ${url.slice(0, 200)}`);
}
