import type { Redis } from 'ioredis';
import type { Clock } from '#libs/clock';
import type { CopiedKey } from './backup-file.ts';

export interface CopyOptions {
  /** Two connections to the Redis that has the keys: one reads them, the other is told which were changed. */
  reader: Redis;
  listener: Redis;
  /** What all keys begin with. */
  prefix: string;
  clock: Clock;
  write(entries: readonly CopiedKey[]): Promise<void>;
  /** Read at the very moment that the copy is of. */
  atTheEnd?: () => Promise<void>;
  /** Told of every step, for a person. */
  onProgress(keys: number): void | Promise<void>;
}

const channel = '__redis__:invalidate';
const pageSize = 500;
/** Redis takes no writes while the last keys are read, for this long at the most, ms; nobody misses it: the API waits for 5 s. */
const longestPause = 2_000;
/** With so few keys changed since they were read, the rest is done in a pause. */
const fewKeys = 500;
const mostRounds = 20;
const mostPauses = 3;

/**
 * Copies all keys with a prefix as they are at one moment, while others change them: first each by itself, then again those that changed
 * meanwhile, and at last, in a pause of all writes, the few that are left. Later entries of a key replace earlier ones. Answers the moment,
 * ms since the epoch on the clock of Redis. Throws when the connection is lost, or keys change faster than they can be read.
 */
export async function takeCopy(options: CopyOptions): Promise<number> {
  const { reader, listener, prefix, clock, write, atTheEnd, onProgress } = options;
  const changed = new Set<string>();
  let isEmptied = false;
  let copied = 0;

  async function redisTime(): Promise<number> {
    const [seconds = 0, micros = 0] = (await reader.time()).map(Number);
    return seconds * 1000 + Math.floor(micros / 1000);
  }

  /** Has heard of every change that was made before it was called. */
  async function hearAll(): Promise<void> {
    await listener.ping();
    if (isEmptied) throw new Error('all keys of Redis were deleted meanwhile');
  }

  async function read(keys: readonly string[]): Promise<CopiedKey[]> {
    const pipeline = reader.pipeline();
    for (const key of keys) pipeline.dumpBuffer(key).pttl(key);
    const now = await redisTime();
    const replies = (await pipeline.exec()) ?? [];
    const failed = replies.find(([error]) => error !== null)?.[0];
    if (failed) throw failed;
    return keys.map((key, at): CopiedKey => {
      const value = replies[2 * at]?.[1] as Buffer | null;
      const left = replies[2 * at + 1]?.[1] as number;
      // It may have ended between the two.
      if (left === -2) return { key, expiresAt: 0, value: null };
      return { key, expiresAt: left === -1 ? 0 : now + Math.max(left, 0), value };
    });
  }

  async function copy(keys: readonly string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += pageSize) {
      const page = keys.slice(at, at + pageSize);
      // Forgotten first: a change while it is read is one more.
      for (const key of page) changed.delete(key);
      await write(await read(page));
      copied += page.length;
      await onProgress(copied);
    }
  }

  /** Reads what is left while nothing can be written; null when that took too long. */
  async function finish(): Promise<{ at: number; entries: CopiedKey[] } | null> {
    const begun = clock.now();
    await reader.call('CLIENT', 'PAUSE', longestPause, 'WRITE');
    try {
      await hearAll();
      const at = await redisTime();
      const keys = [...changed];
      // Forgotten first: another backup may end the pause, and then a change while they are read is one more.
      changed.clear();
      const entries = await read(keys);
      await atTheEnd?.();
      await hearAll();
      if (changed.size === 0 && clock.now() - begun < longestPause) return { at, entries };
      for (const key of keys) changed.add(key);
      return null;
    } finally {
      await reader.call('CLIENT', 'UNPAUSE');
    }
  }

  listener.on('messageBuffer', (_channel: Buffer, keys: Buffer[] | null) => {
    if (keys === null) isEmptied = true;
    else for (const key of keys) changed.add(key.toString());
  });
  const id = await listener.client('ID');
  await listener.subscribe(channel);
  await reader.call('CLIENT', 'TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', prefix);

  let cursor = '0';
  do {
    const [next, keys] = await reader.scan(cursor, 'MATCH', `${prefix}*`, 'COUNT', pageSize);
    await copy(keys);
    cursor = next;
  } while (cursor !== '0');

  for (let pauses = 0; pauses < mostPauses; pauses += 1) {
    await hearAll();
    for (let round = 0; changed.size > fewKeys && round < mostRounds; round += 1) {
      await copy([...changed]);
      await hearAll();
    }
    const end = await finish();
    if (end === null) continue;
    await write(end.entries);
    return end.at;
  }
  throw new Error('keys change faster than they can be copied: try again when there is less to do');
}
