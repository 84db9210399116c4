import type { Clock } from '#libs/clock';
import { refuseWhileRestoring } from '#libs/service/refuse-while-restoring';
import { createKeys } from '#libs/store/keys';
import type { RedisClient } from '#libs/store/redis';
import { createStore } from '#libs/store/store';
import { writeBackup } from './backup-file.ts';
import { connectToNode } from './key-node.ts';
import { takeCopy } from './take-copy.ts';

export interface BackupOptions {
  /** The file to make. */
  path: string;
  redis: RedisClient;
  namespace: string;
  clock: Clock;
  /** Told of every step, for a person; what it throws ends the backup. */
  onProgress(keys: number): void | Promise<void>;
}

/**
 * Copies all that certline has in Redis, as it is at one moment, into a file, while services run. Nothing is left of a backup that fails.
 * Throws while a restore is under way or was cut off: what is there then is no whole copy.
 * Answers the moment (ms since the epoch, on the clock of Redis) and the size of the file in bytes.
 */
export async function backUp(options: BackupOptions): Promise<{ takenAt: number; size: number }> {
  const { path, redis, namespace, clock, onProgress } = options;
  const keys = createKeys(namespace);
  const [reader, listener] = await connectToNode(redis, keys.tag, 2);
  if (!reader || !listener) throw new Error('there is no connection');
  try {
    const store = createStore(reader, namespace);
    await refuseWhileRestoring(store);
    const version = /redis_version:(\S+)/.exec(await reader.info('server'))?.[1] ?? 'unknown';
    const begunAt = new Date(clock.now()).toISOString();
    const file = await writeBackup(path, { namespace, begunAt, redis: version });
    try {
      let masterKeys: Record<string, string> = {};
      const takenAt = await takeCopy({
        ...{ reader, listener, prefix: `${keys.tag}:`, clock, onProgress, write: file.add },
        async atTheEnd() {
          await refuseWhileRestoring(store);
          masterKeys = await reader.hgetall(keys.masterKeys);
        },
      });
      return { takenAt, size: await file.finish({ takenAt: new Date(takenAt).toISOString(), masterKeys }) };
    } catch (error) {
      await file.discard();
      throw error;
    }
  } finally {
    reader.disconnect();
    listener.disconnect();
  }
}
