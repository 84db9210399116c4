import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

/** How long an order may be silent, ms, before a listener on a host ends by itself: whoever wanted it may have died. */
const lifeMs = 300_000;

/** Which orders want a listener on the host of a target to answer for them. A save that drops the challenges says so, too. */
export interface ChallengeListeners {
  /** Wants one from now on. */
  want(order: string, target: string): Promise<void>;
  /** Wants none any more: it ends. */
  drop(order: string, target: string): Promise<void>;
  isWanted(order: string, target: string): Promise<boolean>;
}

export function createChallengeListeners(redis: RedisClient, keys: Keys): ChallengeListeners {
  return {
    async want(order, target) {
      await redis.set(keys.challengeListener(order, target), 'wanted', 'PX', lifeMs);
    },
    async drop(order, target) {
      await redis.del(keys.challengeListener(order, target));
    },
    isWanted: async (order, target) => (await redis.exists(keys.challengeListener(order, target))) === 1,
  };
}
