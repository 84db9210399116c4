import type { RedisClient } from '../store/redis.ts';

/** Where a queue is: a Redis and the store's hash tag. */
interface QueuePlace {
  redis: RedisClient;
  prefix: string;
}

/** How often a worker says that it is there, and for how long that is believed, ms. */
export interface Pulse {
  everyMs: number;
  lifeMs: number;
}

/** A worker may be started anew, or miss some beats, without being missed itself. */
export const usualPulse: Pulse = { everyMs: 15_000, lifeMs: 60_000 };

const keyOf = (prefix: string, queue: string): string => `${prefix}:served:${queue}`;

/**
 * Says, until it is stopped, that a worker takes the jobs of a queue. Nobody takes that back: it ends by itself, and other workers of the
 * queue say it too.
 */
export function startHeartbeat({ redis, prefix }: QueuePlace, queue: string, pulse = usualPulse): () => void {
  let saying = false;
  const beat = (): void => {
    // While Redis is away one beat waits for it, not one of every interval.
    if (saying) return;
    saying = true;
    redis
      .set(keyOf(prefix, queue), '1', 'PX', pulse.lifeMs)
      .catch(() => {})
      .finally(() => {
        saying = false;
      });
  };
  beat();
  const beating = setInterval(beat, pulse.everyMs);
  return () => clearInterval(beating);
}

/** Whether a worker has said of late that it takes the jobs of a queue. */
export async function isServed({ redis, prefix }: QueuePlace, queue: string): Promise<boolean> {
  return (await redis.exists(keyOf(prefix, queue))) === 1;
}
