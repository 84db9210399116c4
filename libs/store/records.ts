import type { z } from 'zod';
import { CertlineError } from '../errors.ts';
import { pageOf } from './paging.ts';
import type { Command, RedisClient } from './redis.ts';
import { newWrite } from './write-token.ts';

export interface RecordPage<T> {
  records: T[];
  cursor: string | null;
}

/** Small records of one kind that seldom change: accounts, targets, credentials, API keys, certificates. */
export interface RecordStore<T> {
  get(id: string): Promise<T | null>;
  /** Newest first. */
  list(page: { cursor?: string | undefined; limit: number }): Promise<RecordPage<T>>;
  /**
   * Stores a record whose id is new, and what else belongs to it; when its unique name is taken, the record that has it is answered.
   * Doing it twice is harmless.
   */
  create(record: T, also?: readonly Command[]): Promise<{ record: T; created: boolean }>;
  /** Replaces a record; the last writer wins. */
  put(record: T): Promise<void>;
  /**
   * Replaces a record by what `change` makes of it, with what else belongs to it, in one step; null when there is none. `change` is
   * called again when somebody else was faster. Throws `name_taken` when another record has the new name.
   */
  update(id: string, change: (record: T) => T, also?: readonly Command[]): Promise<T | null>;
  /** Takes a record away, with what else belongs to it. Doing it twice is harmless. */
  remove(id: string, also?: readonly Command[]): Promise<void>;
  findByName(name: string): Promise<T | null>;
  count(): Promise<number>;
}

export interface RecordKeys<T> {
  record: (id: string) => string;
  /** Sorted set of all ids by time of creation. */
  index: string;
  /** A hash from unique name to id, for kinds that have one. */
  byName?: { key: string; name: (record: T) => string };
  /** Further sorted sets: index name and score. */
  scores?: (record: T) => [index: string, score: number][];
  /** Further hashes from id to what is looked for in all records: hash name and value. */
  values?: (record: T) => [hash: string, value: string][];
  /** What else is written when a record is made, changed or taken away (null); not with `put`, which does not know what was before. */
  follows?: (record: T | null, previous: T | null) => Command[];
}

export function createRecordStore<T extends { id: string; createdAt: number }>(
  redis: RedisClient,
  schema: z.ZodType<T>,
  keys: RecordKeys<T>,
): RecordStore<T> {
  async function get(id: string): Promise<T | null> {
    const document = await redis.hget(keys.record(id), 'document');
    return document === null ? null : schema.parse(JSON.parse(document));
  }

  async function getVersion(id: string): Promise<{ record: T; version: string } | null> {
    const [version, document] = await redis.hmget(keys.record(id), 'version', 'document');
    if (version === null || version === undefined || !document) return null;
    return { record: schema.parse(JSON.parse(document)), version };
  }

  function commands(record: T, write: string): Command[] {
    // Every write is a version of its own, so that `update` notices each of them.
    const all: Command[] = [
      ['HSET', keys.record(record.id), 'version', write, 'write', write, 'document', JSON.stringify(record)],
      ['ZADD', keys.index, String(record.createdAt), record.id],
    ];
    if (keys.byName) all.push(['HSETNX', keys.byName.key, keys.byName.name(record), record.id]);
    for (const [index, score] of keys.scores?.(record) ?? []) all.push(['ZADD', index, String(score), record.id]);
    for (const [hash, value] of keys.values?.(record) ?? []) all.push(['HSET', hash, record.id, value]);
    return all;
  }

  const following = (record: T | null, previous: T | null): Command[] => keys.follows?.(record, previous) ?? [];

  /** What takes the old name of a record away. */
  function forgetName(previous: T, next?: T): Command[] {
    if (!keys.byName) return [];
    const { key, name } = keys.byName;
    return next && name(next) === name(previous) ? [] : [['HDEL', key, name(previous)]];
  }

  async function findByName(name: string): Promise<T | null> {
    const id = keys.byName ? await redis.hget(keys.byName.key, name) : null;
    return id === null ? null : get(id);
  }

  return {
    get,
    findByName,

    async list({ cursor, limit }) {
      const page = await pageOf(redis, keys.index, cursor, limit);
      const records = await Promise.all(page.ids.map(get));
      return {
        records: records.filter((record) => record !== null),
        cursor: page.cursor,
      };
    },

    async create(record, also = []) {
      const write = newWrite();
      const all = JSON.stringify([...commands(record, write), ...following(record, null), ...also]);
      if (!keys.byName) {
        await redis.commit(keys.record(record.id), '', write, all);
        return { record, created: true };
      }
      const { key, name } = keys.byName;
      const owner = await redis.createNamed(key, name(record), record.id, keys.record(''), all);
      if (owner === record.id) return { record, created: true };
      const existing = await get(owner);
      if (existing === null) throw new CertlineError('not_found', `${owner}, which has the name, is gone`);
      return { record: existing, created: false };
    },

    async put(record) {
      const transaction = redis.multi();
      for (const [name, ...args] of commands(record, newWrite())) transaction.call(name, ...args);
      await transaction.exec();
    },

    async update(id, change, also = []) {
      for (;;) {
        const current = await getVersion(id);
        if (current === null) return null;
        const next = change(current.record);
        const write = newWrite();
        const all = JSON.stringify([
          ...[...forgetName(current.record, next), ...commands(next, write)],
          ...[...following(next, current.record), ...also],
        ]);
        if (!keys.byName) {
          if ((await redis.commit(keys.record(id), current.version, write, all)) === 1) return next;
          continue;
        }
        const { key, name } = keys.byName;
        const names = [key, name(next), id, keys.record('')] as const;
        const owner = await redis.replaceNamed(keys.record(id), current.version, write, ...names, all);
        if (owner === id) return next;
        if (owner !== '') throw new CertlineError('name_taken', `${owner} has the name`);
      }
    },

    async remove(id, also = []) {
      for (;;) {
        const current = await getVersion(id);
        if (current === null) return;
        const indexes = [keys.index, ...(keys.scores?.(current.record) ?? []).map(([index]) => index)];
        const all: Command[] = [
          ['DEL', keys.record(id)],
          ...indexes.map((index): Command => ['ZREM', index, id]),
          ...(keys.values?.(current.record) ?? []).map(([hash]): Command => ['HDEL', hash, id]),
          ...forgetName(current.record),
          ...following(null, current.record),
          ...also,
        ];
        const done = await redis.commit(keys.record(id), current.version, newWrite(), JSON.stringify(all));
        if (done === 1) return;
      }
    },

    count: () => redis.zcard(keys.index),
  };
}
