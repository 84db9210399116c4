import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

const common = {
  /** The order that wrote it; `test` for that of a credential. */
  order: z.string(),
  /** When the order dropped it, or the test was begun; ms since the epoch. */
  at: z.number(),
};
const cleanUpSchema = z.discriminatedUnion('kind', [
  /** A TXT record. */
  z.object({
    ...{ ...common, kind: z.literal('dns'), credential: z.string() },
    ...{ zone: z.string(), record: z.string(), value: z.string() },
  }),
  /** A file in the folder of an IIS site. */
  z.object({ ...common, kind: z.literal('target'), target: z.string(), site: z.number().int(), token: z.string() }),
  /** A file in a folder of the validation workers. */
  z.object({ ...common, kind: z.literal('webroot'), folder: z.string(), token: z.string() }),
]);
/** Something that an order has written for a challenge and has no more use for. */
export type CleanUp = z.infer<typeof cleanUpSchema>;

/** What is to be taken away. An entry is there until somebody says that it is done. */
export interface CleanUps {
  /** Entries that are due by `now`, the longest due first; those that cannot be read are put off. */
  due(now: number, limit: number): Promise<CleanUp[]>;
  /** How many TXT records are to be taken away with a credential. */
  countOf(credential: string): Promise<number>;
  /** What was written for an order that had no more use for it by then: it was called off, or another worker has it. */
  addUnlessWanted(one: CleanUp): Promise<void>;
  /** What is about to be written, and is to be gone by `due` (ms since the epoch) whatever becomes of its writer. */
  addBefore(one: CleanUp, due: number): Promise<void>;
  /** Whether an unfinished order wants the same. */
  isWanted(one: CleanUp): Promise<boolean>;
  done(one: CleanUp): Promise<void>;
  putOff(one: CleanUp, at: number): Promise<void>;
  count(): Promise<number>;
}

/** Where it is and what: the same for all orders that write the same. */
function placeOf(one: CleanUp): string[] {
  switch (one.kind) {
    case 'dns':
      return [one.record, one.value];
    case 'target':
      return [one.target, String(one.site), one.token];
    case 'webroot':
      return [one.folder, one.token];
  }
}

/** Name of what is written, for the list of the orders that want it: a CA gives two orders of one account the same authorization. */
export function writtenName(one: CleanUp): string {
  return createHash('sha256')
    .update([one.kind, ...placeOf(one)].join(' '))
    .digest('base64url');
}

/** The text of an entry is its name in the list: always the same for the same one. */
export function cleanUpText(one: CleanUp): string {
  return JSON.stringify(cleanUpSchema.parse(one));
}

/** Its names in the list: TXT records had another text when there was nothing else, and their entries outlive an upgrade. */
function textsOf(one: CleanUp): string[] {
  if (one.kind !== 'dns') return [cleanUpText(one)];
  const { order, credential, zone, record, value, at } = one;
  return [cleanUpText(one), JSON.stringify({ order, credential, zone, record, value, at })];
}

/** Null for what another version has written. */
const read = (text: string): CleanUp | null =>
  cleanUpSchema.safeParse({ kind: 'dns', ...JSON.parse(text) }).data ?? null;

/** After this long, ms, an entry that cannot be read is looked at again: the version that wrote it may be back. */
const unreadableMs = 3_600_000;

export function createCleanUps(redis: RedisClient, keys: Keys): CleanUps {
  const isWanted = async (one: CleanUp): Promise<boolean> => (await redis.scard(keys.written(writtenName(one)))) > 0;
  return {
    async due(now, limit) {
      const texts = await redis.zrangebyscore(keys.cleanUps, '-inf', now, 'LIMIT', 0, limit);
      const found = texts.map((text) => ({ text, one: read(text) }));
      // They must not hold up the others.
      for (const { text, one } of found)
        if (one === null) await redis.zadd(keys.cleanUps, 'XX', String(now + unreadableMs), text);
      return found.flatMap(({ one }) => one ?? []);
    },
    async countOf(credential) {
      const all = (await redis.zrange(keys.cleanUps, '0', '-1')).map(read);
      return all.filter((one) => one?.kind === 'dns' && one.credential === credential).length;
    },
    async addUnlessWanted(one) {
      if (!(await isWanted(one))) await redis.zadd(keys.cleanUps, 'NX', '0', cleanUpText(one));
    },
    async addBefore(one, due) {
      await redis.zadd(keys.cleanUps, String(due), cleanUpText(one));
    },
    isWanted,
    async done(one) {
      await redis.zrem(keys.cleanUps, ...textsOf(one));
    },
    async putOff(one, at) {
      for (const text of textsOf(one)) await redis.zadd(keys.cleanUps, 'XX', String(at), text);
    },
    count: () => redis.zcard(keys.cleanUps),
  };
}
