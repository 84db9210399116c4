import type { Redis } from 'ioredis';
import { createKeys } from '#libs/store/keys';
import { createMasterKeyRecords } from '#libs/store/master-key-records';
import { type BackupHeader, type BackupTrailer, type CopiedKey, readBackup } from './backup-file.ts';

export interface RestoreOptions {
  path: string;
  redis: Redis;
  namespace: string;
  /** Throws when keys that the copy needs are missing, or are others than those of their ids. */
  checkMasterKeys(proofs: Readonly<Record<string, string>>): void;
  /** Whether what is there may be deleted. */
  replace: boolean;
  /** Told of every step, for a person. */
  onProgress(keys: number, of: number): void;
}

const batchKeys = 500;
const batchBytes = 8 << 20;

async function* pagesOf(redis: Redis, prefix: string): AsyncGenerator<string[]> {
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', `${prefix}*`, 'COUNT', 1_000);
    yield keys;
    cursor = next;
  } while (cursor !== '0');
}

/** Throws unless the copy may be put there: into an empty place, one that a restore has left half done, or one that may be replaced. */
async function checkPlace({ redis, namespace, replace }: RestoreOptions): Promise<void> {
  const keys = createKeys(namespace);
  if ((await redis.exists(keys.restoring)) === 1) return;
  const processes = (await createMasterKeyRecords(redis, keys).holders()).map((holder) => holder.process);
  if (processes.length > 0)
    throw new Error(`services use this Redis (${processes.join('; ')}): stop them, and wait for half a minute`);
  if (replace) return;
  for await (const found of pagesOf(redis, keys.tag)) {
    if (found.length === 0) continue;
    throw new Error(`this Redis has keys of namespace ${namespace} already: --replace deletes them`);
  }
}

/** Seconds of Redis' own clock, as ms since the epoch. */
async function timeOf(redis: Redis): Promise<number> {
  return Number((await redis.time())[0]) * 1000;
}

/**
 * Puts a backup into Redis. Everything is checked before anything is changed: that the file is whole, of this namespace, and of master keys that are
 * there, and that the place is empty. Until all of it is there services refuse to start; a restore that was cut off is run again.
 */
export async function restoreCopy(options: RestoreOptions): Promise<BackupHeader & BackupTrailer> {
  const { path, redis, namespace, onProgress } = options;
  const keys = createKeys(namespace);
  const backup = await readBackup(path);
  if (backup.namespace !== namespace)
    throw new Error(`${path} is of namespace ${backup.namespace}, and NAMESPACE is ${namespace}`);
  options.checkMasterKeys(backup.masterKeys);
  await checkPlace(options);

  await redis.set(keys.restoring, path);
  for await (const found of pagesOf(redis, keys.tag)) {
    const old = found.filter((key) => key !== keys.restoring);
    if (old.length > 0) await redis.unlink(...old);
  }

  const now = await timeOf(redis);
  let done = 0;
  let batch: CopiedKey[] = [];
  let bytes = 0;
  async function send(): Promise<void> {
    const pipeline = redis.pipeline();
    for (const { key, expiresAt, value } of batch) {
      const isOver = expiresAt !== 0 && expiresAt <= now;
      if (value === null || isOver) pipeline.unlink(key);
      else pipeline.call('RESTORE', key, expiresAt, value, 'REPLACE', 'ABSTTL');
    }
    const failed = (await pipeline.exec())?.find(([error]) => error !== null)?.[0];
    if (failed?.message.includes('DUMP payload version'))
      throw new Error(`this Redis is too old for the copy, which is of Redis ${backup.redis}`, { cause: failed });
    if (failed) throw failed;
    done += batch.length;
    onProgress(done, backup.entries);
    batch = [];
    bytes = 0;
  }
  await readBackup(path, async (entry) => {
    batch.push(entry);
    bytes += entry.value?.length ?? 0;
    if (batch.length >= batchKeys || bytes >= batchBytes) await send();
  });
  await send();
  // What was true of the processes that ran then.
  await redis.unlink(keys.keyHolders);
  await redis.unlink(keys.restoring);
  return backup;
}
