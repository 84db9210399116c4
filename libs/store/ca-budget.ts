import { createHash } from 'node:crypto';
import type { CaLimitName, Claim, Rate } from '../model/ca-limits.ts';
import type { Keys } from './keys.ts';
import { streamLength } from './order-events.ts';
import type { ParkingEvent } from './parking-events.ts';
import type { Command, RedisClient } from './redis.ts';

/** An order that is about to open an ACME order at a CA. */
export interface BudgetRequest {
  directory: string;
  claims: readonly Claim[];
  order: string;
  epoch: number;
}

/** What of its budget an order has to wait for. */
export interface Shortage {
  claim: Claim;
  waitMs: number;
  /** The CA's own, when it has told another order to wait. */
  words: string | null;
}

/** What may still be asked of the CAs: shared by all workers, on the clock of Redis. */
export interface CaBudget {
  /**
   * Takes all that an order counts for, or nothing; null when it is taken, once in an epoch however often it is asked for. What counts
   * certificates is kept until the order has one, or ends in the validation stage. An order that must wait no longer than `maxWaitMs` is given its turn.
   */
  take(request: BudgetRequest, maxWaitMs: number): Promise<Shortage | null>;
  /** What an order would have to wait for now. Takes nothing. */
  look(request: Pick<BudgetRequest, 'directory' | 'claims'>): Promise<Shortage | null>;
  /** Gives back the ACME order that an order was about to open, for the CA has refused to. What it took for its certificate it keeps. */
  giveBackOrder(order: string): Promise<void>;
  /** Counts what nobody takes, a failed validation for one, once for each URL. */
  count(directory: string, claim: Claim, url: string): Promise<void>;
  /** Lets nobody take a claim for a time, since the CA says so, and tells it as `event`. */
  hold(directory: string, claim: Claim, forMs: number, words: string, event: ParkingEvent): Promise<void>;
  /** What is held at the moment. */
  held(): Promise<{ directory: string; limit: string }[]>;
  /** Whether a claim at the CA may be held. */
  hasHolds(directory: string): Promise<boolean>;
  /** What is left, from 1 to 0, of the most used one of a limit. */
  remaining(directory: string, limit: CaLimitName, rate: Rate): Promise<number>;
}

/** Longer than any order may wait (the deadline of the validation stage). */
const lifeMs = 9 * 86_400_000;
/** Of the CA's words those that are kept. */
const mostWords = 500;

const intervalOf = ({ count, windowMs }: Rate): number => windowMs / count;

/** What an order counts for and how: an order is one at once; a certificate is one however many ACME orders it takes; failures only bar. */
function claimForScript({ limit, key, rate }: Claim): object {
  return {
    ...{ limit, key },
    ...(rate ? { interval: intervalOf(rate), window: rate.windowMs } : {}),
    takes: limit !== 'failed_validations_per_name',
    keeps: limit === 'certificates_per_domain' || limit === 'certificates_per_name_set',
  };
}

/** The time as Redis has it, ms since the epoch: one clock for all workers, so that one that is wrong spoils nothing. */
export async function redisTime(redis: RedisClient): Promise<number> {
  const [seconds = 0, micros = 0] = (await redis.time()).map(Number);
  return seconds * 1000 + Math.floor(micros / 1000);
}

/** @param time ms since the epoch */
export function createCaBudget(redis: RedisClient, keys: Keys, time: () => Promise<number>): CaBudget {
  const countsOf = (directory: string, limit: CaLimitName): string => `${keys.caBudget(directory)}:${limit}`;
  const holdsOf = (directory: string): string => `${keys.caBudget(directory)}:holds`;

  async function run(
    { directory, claims, order, epoch }: BudgetRequest,
    maxWaitMs: number,
    look: boolean,
  ): Promise<Shortage | null> {
    const now = await time();
    const [which = 0, at = now, words = ''] = await redis.takeBudget(
      keys.caBudgetOrder(order),
      keys.caBudget(directory),
      String(now),
      String(epoch),
      String(now + maxWaitMs),
      String(lifeMs),
      JSON.stringify(claims.map(claimForScript)),
      look ? '1' : '',
    );
    const claim = claims[which - 1];
    return claim ? { claim, waitMs: at - now, words: words || null } : null;
  }

  return {
    take: (request, maxWaitMs) => run(request, maxWaitMs, false),
    look: (request) => run({ ...request, order: '', epoch: 0 }, 0, true),

    async giveBackOrder(order) {
      await redis.giveBackBudget(keys.caBudgetOrder(order), 'order');
    },

    async count(directory, { limit, key, rate }, url) {
      if (rate === null) return;
      const counts = countsOf(directory, limit);
      const now = String(await time());
      const commands: Command[] = [
        ['ZREMRANGEBYSCORE', counts, '-inf', now],
        ['ZADD', counts, 'NX', now, key],
        ['ZINCRBY', counts, String(intervalOf(rate)), key],
        // Those beyond the limit bar no longer: the CA counts as many, too.
        ['ZADD', counts, 'XX', 'LT', String(Number(now) + rate.windowMs), key],
        ['PEXPIRE', counts, String(lifeMs)],
      ];
      const once = createHash('sha256').update(`${url} ${limit} ${key}`).digest('base64url');
      await redis.placeOnce(keys.countedOnce(once), '1', String(lifeMs), JSON.stringify(commands));
    },

    async hold(directory, { limit, key }, forMs, words, event) {
      const now = await time();
      await redis.holdBudget(
        ...[holdsOf(directory), keys.heldCaLimits, keys.events],
        ...[`${limit} ${key}`, String(now), String(Math.ceil(now + forMs)), words.slice(0, mostWords), String(lifeMs)],
        ...[`${limit} ${directory}`, JSON.stringify(event), String(streamLength)],
      );
    },

    async held() {
      const members = await redis.zrangebyscore(keys.heldCaLimits, `(${await time()}`, '+inf');
      return members.map((member) => {
        const [limit = '', directory = ''] = member.split(' ');
        return { directory, limit };
      });
    },

    hasHolds: async (directory) => (await redis.exists(holdsOf(directory))) === 1,

    async remaining(directory, limit, { windowMs }) {
      const [, fullAt] = await redis.zrevrange(countsOf(directory, limit), 0, 0, 'WITHSCORES');
      if (fullAt === undefined) return 1;
      const left = 1 - (Number(fullAt) - (await time())) / windowMs;
      return Math.min(1, Math.max(0, left));
    },
  };
}
