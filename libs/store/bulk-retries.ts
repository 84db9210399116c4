import { randomUUID } from 'node:crypto';
import { type BulkRetry, type BulkRetryResult, bulkRetryResultSchema, bulkRetrySchema } from '../model/bulk-retry.ts';
import { bulkRetryEvent } from './bulk-retry-events.ts';
import { type Idempotency, idHeld, madeBy, onceFor } from './idempotency.ts';
import type { Keys } from './keys.ts';
import { streamLength } from './order-events.ts';
import type { Command, RedisClient } from './redis.ts';

/** Bulk retries: which orders they are for, which wait for their turn, and what became of the others. Doing anything twice is harmless. */
export interface BulkRetryStore {
  /** The one that was placed with an idempotency key, null when none was; throws as `place` does. */
  placedWith(idempotency: Idempotency): Promise<BulkRetry | null>;
  /** Stores one with its orders in one step; with an idempotency key once, or throws `idempotency_key_reused` when the body was another. */
  place(bulk: BulkRetry, orders: readonly string[], idempotency?: Idempotency): Promise<BulkRetry>;
  get(id: string): Promise<BulkRetry | null>;
  /** What became of its orders; those that wait are not in it. */
  results(id: string): Promise<Map<string, BulkRetryResult>>;
  /** Ends one that is running; what it is now, null when there is none. */
  end(id: string, status: 'completed' | 'cancelled', now: number): Promise<BulkRetry | null>;
  /** Those that are not done whose next order is due by `now`, with since when. */
  due(now: number): Promise<{ id: string; since: number }[]>;
  /** The next orders that wait for their turn. */
  waiting(id: string, limit: number): Promise<string[]>;
  isWaiting(id: string, order: string): Promise<boolean>;
  /** The commands that note what became of an order: to be stored with it, or by `settle`. */
  settling(id: string, order: string, result: BulkRetryResult): Command[];
  settle(id: string, order: string, result: BulkRetryResult): Promise<void>;
  /** When its next order is due. */
  putOff(id: string, at: number): Promise<void>;
}

/** For how long anybody may ask what became of one, ms. */
const lifeMs = 30 * 86_400_000;
/** Orders in one command. */
const chunk = 1_000;

/** The waiting orders by their place in line. */
function queueCommands(key: string, orders: readonly string[]): Command[] {
  const starts = Array.from({ length: Math.ceil(orders.length / chunk) }, (_, at) => at * chunk);
  const lines = starts.map((from): Command => {
    const some = orders.slice(from, from + chunk).flatMap((order, at) => [String(from + at), order]);
    return ['ZADD', key, ...some];
  });
  return lines.length === 0 ? [] : [...lines, ['PEXPIRE', key, String(lifeMs)]];
}

export function createBulkRetries(redis: RedisClient, keys: Keys): BulkRetryStore {
  /** The record as it now stands, and the event that tells of it. */
  function recordCommands(bulk: BulkRetry, write: string): Command[] {
    const event = JSON.stringify(bulkRetryEvent(bulk));
    return [
      ['HSET', keys.bulkRetry(bulk.id), 'version', bulk.status, 'write', write, 'document', JSON.stringify(bulk)],
      ['PEXPIRE', keys.bulkRetry(bulk.id), String(lifeMs)],
      ['XADD', keys.events, 'MAXLEN', '~', String(streamLength), '*', 'event', event],
    ];
  }

  async function get(id: string): Promise<BulkRetry | null> {
    const document = await redis.hget(keys.bulkRetry(id), 'document');
    return document === null ? null : bulkRetrySchema.parse(JSON.parse(document));
  }

  return {
    get,

    async placedWith(idempotency) {
      const id = await madeBy(redis, keys, idempotency);
      return id === null ? null : get(id);
    },

    async place(bulk, orders, idempotency) {
      const write = randomUUID();
      const commands = JSON.stringify([
        ...recordCommands(bulk, write),
        ...queueCommands(keys.bulkRetryWaiting(bulk.id), orders),
        ['ZADD', keys.runningBulkRetries, String(bulk.createdAt), bulk.id],
      ]);
      if (!idempotency) {
        await redis.commit(keys.bulkRetry(bulk.id), '', write, commands);
        return bulk;
      }
      const once = onceFor(keys, idempotency, bulk.id);
      const counts = await redis.placeOnce(...once, commands);
      return (counts === once[1] ? null : await get(idHeld(counts, idempotency))) ?? bulk;
    },

    async results(id) {
      const found = await redis.hgetall(keys.bulkRetryResults(id));
      const parsed = Object.entries(found).map(
        ([order, text]) => [order, bulkRetryResultSchema.parse(JSON.parse(text))] as const,
      );
      return new Map(parsed);
    },

    async end(id, status, now) {
      const bulk = await get(id);
      if (bulk === null) {
        await redis.zrem(keys.runningBulkRetries, id);
        return null;
      }
      if (bulk.status !== 'running') return bulk;
      const ended: BulkRetry = { ...bulk, status, updatedAt: now };
      const write = randomUUID();
      const commands: Command[] = [
        ...recordCommands(ended, write),
        ['ZREM', keys.runningBulkRetries, id],
        ['DEL', keys.bulkRetryWaiting(id)],
      ];
      const done = await redis.commit(keys.bulkRetry(id), 'running', write, JSON.stringify(commands));
      // Somebody else was faster, and one that has ended stays as it is.
      return done === 1 ? ended : get(id);
    },

    async due(now) {
      const rows = await redis.zrangebyscore(keys.runningBulkRetries, '-inf', now, 'WITHSCORES');
      return Array.from({ length: rows.length / 2 }, (_, at) => ({
        id: rows[2 * at] ?? '',
        since: Number(rows[2 * at + 1]),
      }));
    },

    waiting: (id, limit) => redis.zrange(keys.bulkRetryWaiting(id), '0', String(limit - 1)),
    isWaiting: async (id, order) => (await redis.zscore(keys.bulkRetryWaiting(id), order)) !== null,

    settling: (id, order, result) => [
      ['ZREM', keys.bulkRetryWaiting(id), order],
      // The first word counts: who comes later has seen what the first one did.
      ['HSETNX', keys.bulkRetryResults(id), order, JSON.stringify(result)],
      ['PEXPIRE', keys.bulkRetryResults(id), String(lifeMs)],
    ],
    async settle(id, order, result) {
      const transaction = redis.multi();
      for (const [name, ...args] of this.settling(id, order, result)) transaction.call(name, ...args);
      await transaction.exec();
    },
    async putOff(id, at) {
      await redis.zadd(keys.runningBulkRetries, 'XX', String(at), id);
    },
  };
}
