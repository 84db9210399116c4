import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

/** When each target is looked at next. Times are ms since the epoch. Doing anything twice is harmless. */
export interface DriftSchedule {
  /** Targets to be looked at by `now`, the longest overdue first. */
  due(now: number, limit: number): Promise<string[]>;
  /** Changes when a target is looked at; nothing when it is not in the schedule, for it may have been deleted. */
  put(target: string, at: number): Promise<void>;
  /** As `put`, unless the target is looked at before that anyway. */
  sooner(target: string, at: number): Promise<void>;
  /** Targets that are in no schedule. */
  missing(): Promise<string[]>;
  /** Takes up targets that are in no schedule. */
  add(times: readonly { target: string; at: number }[]): Promise<void>;
  /** Targets that would be looked at after `at` only: the interval was longer once. */
  after(at: number): Promise<string[]>;
  /** Drops those whose target is gone. */
  prune(): Promise<void>;
}

/** Targets in one command. */
const batch = 1_000;

export function createDriftSchedule(redis: RedisClient, keys: Keys): DriftSchedule {
  return {
    due: (now, limit) => redis.zrangebyscore(keys.driftSchedule, '-inf', now, 'LIMIT', 0, limit),
    async put(target, at) {
      await redis.zadd(keys.driftSchedule, 'XX', String(at), target);
    },
    async sooner(target, at) {
      await redis.zadd(keys.driftSchedule, 'XX', 'LT', String(at), target);
    },
    missing: () => redis.zdiff(2, [keys.targets, keys.driftSchedule]),
    async add(times) {
      for (let from = 0; from < times.length; from += batch) {
        const some = times.slice(from, from + batch).flatMap(({ target, at }) => [String(at), target]);
        await redis.zadd(keys.driftSchedule, 'NX', ...some);
      }
    },
    after: (at) => redis.zrangebyscore(keys.driftSchedule, `(${at}`, '+inf'),
    async prune() {
      const gone = await redis.zdiff(2, [keys.driftSchedule, keys.targets]);
      if (gone.length > 0) await redis.zrem(keys.driftSchedule, ...gone);
    },
  };
}
