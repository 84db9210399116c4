import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

/** Answers to http-01 challenges: key authorizations by token, which every API process serves. Saves of orders put and delete them. */
export interface ChallengeAnswers {
  get(token: string): Promise<string | null>;
  /** An answer that belongs to no order, to see whether it is found; it ends after `lifeMs`, or when it is dropped. */
  try(token: string, keyAuthorization: string, lifeMs: number): Promise<void>;
  drop(token: string): Promise<void>;
}

export function createChallengeAnswers(redis: RedisClient, keys: Keys): ChallengeAnswers {
  return {
    get: (token) => redis.get(keys.challenge(token)),
    async try(token, keyAuthorization, lifeMs) {
      await redis.set(keys.challenge(token), keyAuthorization, 'PX', lifeMs);
    },
    async drop(token) {
      await redis.del(keys.challenge(token));
    },
  };
}
