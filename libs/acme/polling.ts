import type { Clock } from '../clock.ts';
import { CertlineError, type ErrorCode } from '../errors.ts';

/** First looks come quickly, since CAs mostly answer within a second; after this long the slot is given back. */
const inPlaceMs = 4_000;
const firstDelayMs = 50;
const maxDelayMs = 800;
/** How long to stay away when the CA does not say. */
const waitMs = 5_000;

export interface PollOptions<T extends { retryAfter: number | null }> {
  read: () => Promise<T>;
  /** Whether the CA has not decided yet. */
  busy: (seen: T) => boolean;
  /** Code of the wait that is thrown when it takes long. */
  code: ErrorCode;
  context: { clock: Clock; signal: AbortSignal };
}

/**
 * Asks again while the CA is busy: a few times in place, then by throwing a `wait` until the CA's Retry-After (RFC 8555 §7.5.1),
 * so that no worker slot is held by a slow CA.
 */
export async function pollInPlace<T extends { retryAfter: number | null }>({
  read,
  busy,
  code,
  context,
}: PollOptions<T>): Promise<T> {
  const { clock, signal } = context;
  const start = clock.now();
  for (let delay = firstDelayMs; ; delay = Math.min(delay * 2, maxDelayMs)) {
    await clock.sleep(delay, signal);
    const seen = await read();
    if (!busy(seen)) return seen;
    const now = clock.now();
    const asked = seen.retryAfter ?? 0;
    if (now - start >= inPlaceMs || asked > start + inPlaceMs) {
      const until = Math.max(asked, now + 1_000, asked === 0 ? now + waitMs : 0);
      throw new CertlineError(code, 'the CA has not decided yet', { plan: { kind: 'wait', until } });
    }
    if (asked > now) await clock.sleep(asked - now, signal);
  }
}
