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

async function checkProcesses({ redis, namespace }: RestoreOptions): Promise<void> {
  const holders = await createMasterKeyRecords(redis, createKeys(namespace)).holders();
  if (holders.length === 0) return;
  const processes = holders.map((holder) => holder.process).join('; ');
  throw new Error(`services use this Redis (${processes}): stop them, and wait for half a minute`);
}

/** Throws unless the copy may be put there: into an empty place, one that a restore has left half done, or one that may be replaced. */
async function checkPlace(options: RestoreOptions, isHalfDone: boolean): Promise<void> {
  const { redis, namespace, replace } = options;
  const keys = createKeys(namespace);
  await checkProcesses(options);
  if (isHalfDone || replace) return;
  for await (const found of pagesOf(redis, keys.tag)) {
    if (found.length === 0) continue;
    throw new Error(`this Redis has keys of namespace ${namespace} already: --replace deletes them`);
  }
}

/** How long a value is kept that nobody took away again, ms. */
const longestProbe = 10_000;

/** Throws unless Redis takes a value of the copy: one that is too old, has no room, or does not let this user restore, must not be emptied for it. */
async function checkValue(redis: Redis, key: string, value: Buffer, copiedFrom: string): Promise<void> {
  try {
    await redis.call('RESTORE', key, longestProbe, value, 'REPLACE');
    await redis.unlink(key);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    const why = text.includes('DUMP payload version')
      ? `is too old for the copy, which is of Redis ${copiedFrom}: use that version or a newer one`
      : `does not take the copy (${text}): mend that, and run it again`;
    throw new Error(`this Redis ${why}. Nothing was changed.`, { cause });
  }
}

/** Seconds of Redis' own clock, as ms since the epoch. */
async function timeOf(redis: Redis): Promise<number> {
  return Number((await redis.time())[0]) * 1000;
}

/**
 * Puts a backup into Redis. Everything is checked before anything is changed: that the file is whole, of this namespace, and of master keys that are
 * there, that no service runs, that the place is empty, and that Redis takes a value of the file. Until all of it is there services refuse to start; a restore that was cut off is run again.
 */
export async function restoreCopy(options: RestoreOptions): Promise<BackupHeader & BackupTrailer> {
  const { path, redis, namespace, onProgress } = options;
  const keys = createKeys(namespace);
  let sample = null as Buffer | null;
  const backup = await readBackup(path, (entry) => {
    sample ??= entry.value;
  });
  if (backup.namespace !== namespace)
    throw new Error(`${path} is of namespace ${backup.namespace}, and NAMESPACE is ${namespace}`);
  options.checkMasterKeys(backup.masterKeys);
  const isHalfDone = (await redis.exists(keys.restoring)) === 1;
  await checkPlace(options, isHalfDone);
  if (sample) await checkValue(redis, `${keys.restoring}-probe`, sample, backup.redis);

  await redis.set(keys.restoring, path);
  // From now on none starts; one may have since the first look.
  await checkProcesses(options).catch(async (error: unknown) => {
    if (!isHalfDone) await redis.unlink(keys.restoring);
    throw error;
  });
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
    if (failed) throw failed;
    done += batch.length;
    onProgress(done, backup.entries);
    batch = [];
    bytes = 0;
  }
  await readBackup(path, async (entry) => {
    // True of the processes that ran then.
    if (entry.key === keys.keyHolders) return;
    batch.push(entry);
    bytes += entry.value?.length ?? 0;
    if (batch.length >= batchKeys || bytes >= batchBytes) await send();
  });
  await send();
  await redis.unlink(keys.restoring);
  return backup;
}
