import { randomUUID } from 'node:crypto';
import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

/** Leases for what only one process ought to do at a time. Two doing it all the same must do no harm: a lease may lapse. */
export interface Leases {
  /**
   * Runs `work` if the lease is free, and holds it until the work has ended; null when it is not free. The lease of a process that dies
   * is free after `ms`. `lost` is aborted when somebody else has it meanwhile: this process was silent for longer than that.
   */
  hold<T>(name: string, ms: number, work: (lost: AbortSignal) => Promise<T>): Promise<{ result: T } | null>;
  isHeld(name: string): Promise<boolean>;
}

const release = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;
/** A lease that lapsed and that nobody took is taken up again. */
const renew = `local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

export function createLeases(redis: RedisClient, keys: Keys): Leases {
  async function take(name: string, ms: number): Promise<string | null> {
    const holder = randomUUID();
    if ((await redis.set(keys.lease(name), holder, 'PX', ms, 'NX')) !== null) return holder;
    // The clock of Redis was set back: a lease would last for as long as that.
    if ((await redis.pttl(keys.lease(name))) > ms) await redis.pexpire(keys.lease(name), ms);
    return null;
  }

  return {
    isHeld: async (name) => (await redis.exists(keys.lease(name))) === 1,

    async hold(name, ms, work) {
      const holder = await take(name, ms);
      if (holder === null) return null;
      const lost = new AbortController();
      let asking = false;
      const renewing = setInterval(() => {
        if (asking) return;
        asking = true;
        redis
          .eval(renew, 1, keys.lease(name), holder, ms)
          .then((mine) => mine === 0 && lost.abort(new Error(`somebody else holds ${name}`)))
          // Redis is away: whether the lease is still ours is asked again.
          .catch(() => {})
          .finally(() => {
            asking = false;
          });
      }, ms / 3);
      try {
        return { result: await work(lost.signal) };
      } finally {
        clearInterval(renewing);
        await redis.eval(release, 1, keys.lease(name), holder);
      }
    },
  };
}
