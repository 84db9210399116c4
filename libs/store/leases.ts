import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Keys } from './keys.ts';

/** Leases for loops that only one process ought to run at a time. Two running all the same must do no harm: a lease may lapse. */
export interface Leases {
  /** Runs `work` if the lease is free, holding it for `ms` at the most; answers whether it ran. */
  withLease(name: string, ms: number, work: () => Promise<void>): Promise<boolean>;
}

const release = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;

export function createLeases(redis: Redis, keys: Keys): Leases {
  return {
    async withLease(name, ms, work) {
      const holder = randomUUID();
      if ((await redis.set(keys.lease(name), holder, 'PX', ms, 'NX')) === null) return false;
      try {
        await work();
      } finally {
        await redis.eval(release, 1, keys.lease(name), holder);
      }
      return true;
    },
  };
}
