import type { Clock } from '#libs/clock';
import { type AcmeDirectory, createDirectoryCache, directorySchema } from './directory.ts';
import { createNoncePool } from './nonces.ts';
import type { AcmeCall, AcmeLog, AcmeOperation } from './operations.ts';
import { acmeError } from './problems.ts';
import { readResource, unreadable } from './resources.ts';
import { createTransport, isPlainLoopback, type TransportAnswer, type TransportRequest } from './transport.ts';

/** Told of every request to a CA, for the metrics; must not throw. `status` is 0 when there was no answer. */
export type AcmeObserver = (directoryUrl: string, operation: AcmeOperation, status: number, seconds: number) => void;

/** Lets a request to a CA through when its turn has come; fails by the signal alone. */
export type AcmePermit = (directoryUrl: string, operation: AcmeOperation, signal?: AbortSignal) => Promise<void>;

export interface CaConnectionOptions {
  directoryUrl: string;
  /** PEM certificates trusted besides the roots of the system. */
  caBundle: string | null;
  clock: Clock;
  userAgentVersion: string;
  /** For one request, in ms (30 s). */
  timeoutMs?: number | undefined;
  maxSockets?: number | undefined;
  log?: AcmeLog | undefined;
  observe?: AcmeObserver | undefined;
  /** For every request; without it each is sent at once. */
  permit?: AcmePermit | undefined;
}

/** What all sessions at one CA share: sockets, directory, nonces. Errors are `CertlineError`s; an abort is thrown as the signal's reason. */
export interface CaConnection {
  readonly clock: Clock;
  readonly log: AcmeLog | undefined;
  directory(signal?: AbortSignal): Promise<AcmeDirectory>;
  /** An unsigned request, as for the directory and renewal information. */
  get(call: AcmeCall, signal?: AbortSignal): Promise<TransportAnswer>;
  /**
   * A signed request (RFC 8555 §6.2). Only a refused nonce is answered by another: the CA has not looked at the request then (§6.5).
   * @param signing makes the JWS for a nonce
   */
  post(call: AcmeCall, signing: (nonce: string) => string, signal?: AbortSignal): Promise<TransportAnswer>;
  close(): void;
}

const maxNonceRetries = 8;

export function createCaConnection(options: CaConnectionOptions): CaConnection {
  const { directoryUrl, clock, log, observe, permit } = options;
  const transport = createTransport({
    userAgentVersion: options.userAgentVersion,
    caBundle: options.caBundle,
    // a CA on the network must not lead us to the plain ports of this machine
    plainHttp: isPlainLoopback(directoryUrl),
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.maxSockets === undefined ? {} : { maxSockets: options.maxSockets }),
  });

  async function exchange(
    { operation, url }: AcmeCall,
    request: Omit<TransportRequest, 'url'>,
  ): Promise<TransportAnswer> {
    await permit?.(directoryUrl, operation, request.signal);
    const start = performance.now();
    const report = (status: number) => {
      const seconds = (performance.now() - start) / 1000;
      observe?.(directoryUrl, operation, status, seconds);
      log?.debug({ operation, url, status, seconds }, 'ACME request');
    };
    try {
      const answer = await transport.request({ url, ...request });
      report(answer.status);
      return answer;
    } catch (error) {
      if (!request.signal?.aborted) report(0);
      throw error;
    }
  }

  /** An unsigned request; its nonce, if it has one, is kept, also when it failed. */
  async function get(call: AcmeCall, method: 'GET' | 'HEAD', signal?: AbortSignal): Promise<TransportAnswer> {
    const answer = await exchange(call, { method, signal });
    // newNonce hands its nonce to the one who asked
    if (call.operation !== 'newNonce' || answer.status >= 300) nonces.put(answer.headers['replay-nonce']);
    if (answer.status < 300) return answer;
    forgetMoved(answer);
    throw acmeError(answer, call, clock.now());
  }

  /** Addresses of the directory that lead nowhere may have moved. */
  function forgetMoved({ status }: TransportAnswer): void {
    if (status === 404 || status === 410) directory.forget();
  }

  const directory = createDirectoryCache(clock, async () => {
    const call = { operation: 'directory', url: directoryUrl } as const;
    return readResource(directorySchema, await get(call, 'GET'), call);
  });

  const nonces = createNoncePool(clock, async (signal) => {
    const { newNonce } = await directory.get(signal);
    const call = { operation: 'newNonce', url: newNonce } as const;
    const answer = await get(call, 'HEAD', signal);
    const nonce = answer.headers['replay-nonce'];
    if (typeof nonce !== 'string') throw unreadable(answer, call, 'no Replay-Nonce');
    return nonce;
  });

  return {
    clock,
    log,
    directory: (signal) => directory.get(signal),
    get: (call, signal) => get(call, 'GET', signal),
    async post(call, signing, signal) {
      let nonce = await nonces.take(signal);
      for (let retries = 0; ; retries++) {
        const body = signing(nonce);
        const accept = call.operation === 'certificate' ? 'application/pem-certificate-chain' : 'application/json';
        const answer = await exchange(call, {
          method: 'POST',
          body,
          accept,
          signal,
        });
        const fresh = answer.headers['replay-nonce'];
        if (answer.status < 300) {
          nonces.put(fresh);
          return answer;
        }
        const error = acmeError(answer, call, clock.now());
        if (error.code !== 'ca_bad_nonce' || retries >= maxNonceRetries) {
          nonces.put(fresh);
          forgetMoved(answer);
          throw error;
        }
        // the fresh one is surely good, those of the pool may be as stale as this one was
        nonce = typeof fresh === 'string' ? fresh : await nonces.take(signal);
      }
    },
    close: () => transport.close(),
  };
}
