import type { Clock } from '../clock.ts';
import { type CaLimits, type Rate, type RequestLimitName, requestLimitOf } from '../model/ca-limits.ts';
import { orAborted } from '../or-aborted.ts';
import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

/**
 * Resolves when a request may be sent to a CA, given by its directory URL; at once where the CA has no limit for it. Never fails but by the
 * signal, with its reason.
 */
export type RequestPermit = (directory: string, operation: string, signal?: AbortSignal) => Promise<void>;

export interface RequestPermitsOptions {
  redis: RedisClient;
  keys: Pick<Keys, 'caBudget'>;
  /** By directory URL. */
  limits: ReadonlyMap<string, CaLimits>;
  clock: Clock;
  /** Told of each request that had to wait. */
  waited(directory: string, limit: RequestLimitName, seconds: number): void;
}

/** The part of a limit that a process takes at a time: small, so that others have their share; not one by one, so that few requests ask Redis. */
const batchPart = 1 / 10;
/** How long permits that were not used are good, ms. */
const lifeMs = 1_000;
/** How long Redis may take to answer, ms. */
const patienceMs = 500;

const batchOf = ({ count }: Rate): number => Math.max(1, Math.floor(count * batchPart));

/** The permits of this process for one limit, in the order in which they are asked for. */
function createLine(batch: number, take: () => Promise<number>, clock: Clock) {
  let left = 0;
  let end = 0;
  let taking: Promise<void> | null = null;

  async function refill(): Promise<void> {
    await clock.sleep(await take());
    left = batch;
    end = clock.now() + lifeMs;
  }

  /** Whether there is one, which is then used. */
  function use(): boolean {
    const is = left > 0 && clock.now() < end;
    if (is) left -= 1;
    return is;
  }

  return {
    use,
    async wait(signal: AbortSignal | undefined): Promise<void> {
      do {
        taking ??= refill().finally(() => {
          taking = null;
        });
        await (signal ? orAborted(taking, signal) : taking);
      } while (!use());
    },
  };
}

/** Permits for requests to CAs, which all processes share through Redis as though they had one address. */
export function createRequestPermits(options: RequestPermitsOptions): RequestPermit {
  const { redis, keys, limits, clock } = options;
  const lines = new Map<string, ReturnType<typeof createLine>>();

  /** Takes a batch; answers after how many ms it may be used. */
  async function take(key: string, rate: Rate): Promise<number> {
    const interval = rate.windowMs / rate.count;
    const batch = batchOf(rate);
    // At once but half of what the CA takes at once: the other half is for what processes have taken before and not used yet.
    const window = Math.max(rate.windowMs / 2, batch * interval);
    const over = new AbortController();
    try {
      const answered = redis.takePermits(key, String(batch), String(interval), String(window));
      return await Promise.race([answered, clock.sleep(patienceMs, over.signal).then(() => 0)]);
    } catch {
      // Without Redis no work is begun anywhere, and what is under way are few requests. Held back until Redis comes back they
      // would be sent when other workers have taken up their orders.
      return 0;
    } finally {
      over.abort();
    }
  }

  return async (directory, operation, signal) => {
    const limit = requestLimitOf(operation);
    const rate = limits.get(directory)?.[limit];
    if (!rate) return;
    signal?.throwIfAborted();
    const key = `${keys.caBudget(directory)}:${limit}`;
    const line = lines.get(key) ?? createLine(batchOf(rate), () => take(key, rate), clock);
    lines.set(key, line);
    if (line.use()) return;
    const begun = clock.now();
    await line.wait(signal);
    options.waited(directory, limit, (clock.now() - begun) / 1000);
  };
}
