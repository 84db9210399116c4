import type { Redis } from 'ioredis';
import type { Keys } from './keys.ts';

/** Answers to http-01 challenges: key authorizations by token, which every API process serves. Saves of orders put and delete them. */
export interface ChallengeAnswers {
  get(token: string): Promise<string | null>;
}

export function createChallengeAnswers(redis: Redis, keys: Keys): ChallengeAnswers {
  return {
    get: (token) => redis.get(keys.challenge(token)),
  };
}
