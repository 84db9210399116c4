import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { Keys } from './keys.ts';

const cleanUpSchema = z.object({
  /** The order that wrote it. */
  order: z.string(),
  credential: z.string(),
  zone: z.string(),
  record: z.string(),
  value: z.string(),
  /** When the order dropped it, ms since the epoch. */
  at: z.number(),
});
/** A TXT record that an order has no more use for. */
export type CleanUp = z.infer<typeof cleanUpSchema>;

/** What is to be taken away. An entry is there until somebody says that it is done. */
export interface CleanUps {
  /** Entries that are due by `now`, the longest due first; those that cannot be read are left out. */
  due(now: number, limit: number): Promise<CleanUp[]>;
  /** How many are to be done with a credential. */
  countOf(credential: string): Promise<number>;
  /** What was written for an order that had no more use for it by then: it was called off, or another worker has it. */
  addUnlessWanted(one: CleanUp): Promise<void>;
  /** Whether an unfinished order wants the same record: a CA gives two orders of one account the same authorization. */
  isWanted(one: CleanUp): Promise<boolean>;
  done(one: CleanUp): Promise<void>;
  putOff(one: CleanUp, at: number): Promise<void>;
  count(): Promise<number>;
}

/** Name of a value of a TXT record among all of them. */
export function dnsRecordName({ record, value }: { record: string; value: string }): string {
  return createHash('sha256').update(`${record} ${value}`).digest('base64url');
}

/** The text of an entry is its name in the list: always the same for the same one. */
export function cleanUpText({ order, credential, zone, record, value, at }: CleanUp): string {
  return JSON.stringify({ order, credential, zone, record, value, at });
}

export function createCleanUps(redis: Redis, keys: Keys): CleanUps {
  const read = (texts: string[]): CleanUp[] =>
    texts.flatMap((text) => cleanUpSchema.safeParse(JSON.parse(text)).data ?? []);
  const isWanted = async (one: CleanUp): Promise<boolean> =>
    (await redis.scard(keys.dnsRecord(dnsRecordName(one)))) > 0;
  return {
    async due(now, limit) {
      const texts = await redis.zrangebyscore(keys.cleanUps, '-inf', now, 'LIMIT', 0, limit);
      return read(texts);
    },
    async countOf(credential) {
      const all = read(await redis.zrange(keys.cleanUps, '0', '-1'));
      return all.filter((one) => one.credential === credential).length;
    },
    async addUnlessWanted(one) {
      if (!(await isWanted(one))) await redis.zadd(keys.cleanUps, 'NX', '0', cleanUpText(one));
    },
    isWanted,
    async done(one) {
      await redis.zrem(keys.cleanUps, cleanUpText(one));
    },
    async putOff(one, at) {
      await redis.zadd(keys.cleanUps, 'XX', String(at), cleanUpText(one));
    },
    count: () => redis.zcard(keys.cleanUps),
  };
}
