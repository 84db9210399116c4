import type { Redis } from 'ioredis';
import type { Keys } from './keys.ts';

/** Answers to http-01 challenges: key authorizations by token, which every API process serves. The save of an order that drops one deletes it. */
export interface ChallengeAnswers {
  /** Makes an answer visible until `expires` (ms since the epoch): the net under a clean-up that never came. */
  put(token: string, keyAuthorization: string, expires: number): Promise<void>;
  get(token: string): Promise<string | null>;
}

export function createChallengeAnswers(redis: Redis, keys: Keys): ChallengeAnswers {
  return {
    async put(token, keyAuthorization, expires) {
      await redis.set(keys.challenge(token), keyAuthorization, 'PXAT', expires);
    },
    get: (token) => redis.get(keys.challenge(token)),
  };
}
