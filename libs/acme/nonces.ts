import type { Clock } from '#libs/clock';

/** Replay nonces of one CA (RFC 8555 §6.5). */
export interface NoncePool {
  /** Keeps the nonce of an answer, if it had one. */
  put(nonce: string | string[] | undefined): void;
  /** The freshest nonce, or one fetched from the CA when none is left. */
  take(signal?: AbortSignal): Promise<string>;
  /** How many are kept. */
  readonly size: number;
}

const maxKept = 50;
// A CA forgets nonces (by age or when it restarts); an old one costs a refused request.
const maxAgeMs = 10 * 60_000;

/**
 * A pool for one CA: at most 50 nonces, none older than 10 minutes.
 * @param fetchNonce asks newNonce (RFC 8555 §7.2); called only when the pool is empty
 */
export function createNoncePool(clock: Clock, fetchNonce: (signal?: AbortSignal) => Promise<string>): NoncePool {
  // oldest first
  const kept: { nonce: string; at: number }[] = [];
  const dropOld = () => {
    const oldest = clock.now() - maxAgeMs;
    while (kept[0] && kept[0].at <= oldest) kept.shift();
  };
  return {
    put(nonce) {
      // RFC 8555 §6.5.1: what is not base64url has to be ignored
      if (typeof nonce !== 'string' || !/^[\w-]+$/.test(nonce)) return;
      kept.push({ nonce, at: clock.now() });
      if (kept.length > maxKept) kept.shift();
    },
    async take(signal) {
      dropOld();
      return kept.pop()?.nonce ?? (await fetchNonce(signal));
    },
    get size() {
      dropOld();
      return kept.length;
    },
  };
}
