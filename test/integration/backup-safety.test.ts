import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis as Client } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { readConfig } from '#libs/config';
import { openSecretBox } from '#libs/service/open-secret-box';
import { openResources } from '#libs/service/resources';
import { createKeys } from '#libs/store/keys';
import { createMasterKeyRecords } from '#libs/store/master-key-records';
import { connectRedis } from '#libs/store/redis';
import { backUp } from '../../services/backup/back-up.ts';
import { type CopiedKey, writeBackup } from '../../services/backup/backup-file.ts';
import { connectToNode } from '../../services/backup/key-node.ts';
import { restoreCopy } from '../../services/backup/restore-copy.ts';
import { type CopyOptions, takeCopy } from '../../services/backup/take-copy.ts';
import { type Redis, runningRedis, startRedis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** What must not go wrong when something comes in between. */
const namespace = 'safety';
const keys = createKeys(namespace);
const masterKey = `test:${randomBytes(32).toString('base64')}`;
const key = `${keys.tag}:one`;
let server: Redis;
let redis: Client;
let dir: string;

beforeAll(async () => {
  server = await startTestRedis();
  redis = connectRedis(server.url, 'worker', () => {}) as Client;
  dir = await mkdtemp(join(tmpdir(), 'certline-backup-'));
});
afterAll(async () => {
  redis.disconnect();
  await server.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(async () => {
  await redis.flushall();
  await redis.set(key, 'old');
});

const newFile = (): string => join(dir, randomBytes(4).toString('hex'));

async function back(onProgress: () => void | Promise<void> = () => {}): Promise<string> {
  const path = newFile();
  await backUp({ path, redis, namespace, clock, onProgress });
  return path;
}

/** A file with one key in it. */
async function fileOf(value: Buffer): Promise<string> {
  const path = newFile();
  const file = await writeBackup(path, { namespace, begunAt: '', redis: '99.0.0' });
  await file.add([{ key, expiresAt: 0, value }]);
  await file.finish({ takenAt: '', masterKeys: {} });
  return path;
}

async function restore(
  path: string,
  url = server.url,
  prepare: (node: Client) => void = () => {},
  onProgress = () => {},
): Promise<void> {
  const client = connectRedis(url, 'worker', () => {});
  const [node] = await connectToNode(client, keys.tag, 1);
  if (!node) throw new Error('there is no connection');
  prepare(node);
  try {
    await restoreCopy({ path, redis: node, namespace, replace: true, checkMasterKeys() {}, onProgress });
  } finally {
    node.disconnect();
    client.disconnect();
  }
}

describe('a restore that replaces deletes nothing', () => {
  it('when Redis is too old for the copy', async () => {
    const value = await redis.dumpBuffer(key);
    // The version of its format, before the 8 bytes of its checksum.
    value.writeUInt16LE(0xffff, value.length - 10);
    await expect(restore(await fileOf(value))).rejects.toThrow(/too old for the copy.*99\.0\.0.*Nothing was changed/);
    expect(await redis.get(key)).toBe('old');
    expect(await redis.dbsize()).toBe(1);
  });

  it('when the user may not restore', async () => {
    const path = await back();
    await redis.call('ACL', 'SETUSER', 'limited', 'on', '>of-limited', '~*', '&*', '+@all', '-restore');
    const url = server.url.replace('://', '://limited:of-limited@');
    await expect(restore(path, url)).rejects.toThrow(/no permissions.*Nothing was changed/);
    expect(await redis.get(key)).toBe('old');
    expect(await redis.dbsize()).toBe(1);
  });

  it('when a service has come since it looked', async () => {
    const path = await back();
    const records = createMasterKeyRecords(redis, keys);
    const comesIn = (node: Client): void => {
      const set = node.set.bind(node);
      node.set = (async (...args: Parameters<typeof set>) => {
        await records.announce({ process: 'web01, pid 7', keys: [['test', '']] }, 'proof', 60_000);
        return set(...args);
      }) as typeof node.set;
    };
    await expect(restore(path, server.url, comesIn)).rejects.toThrow('web01, pid 7');
    expect(await redis.get(key)).toBe('old');
    // Services may start again.
    expect(await redis.exists(keys.restoring)).toBe(0);
  });
});

it('a restore that was cut off is run again at once, though services ran when the copy was taken', async () => {
  const records = createMasterKeyRecords(redis, keys);
  await records.announce({ process: 'web01, pid 7', keys: [['test', '']] }, 'proof', 60_000);
  const path = await back();
  await redis.flushall();
  const cutOff = (): void => {
    throw new Error('stopped');
  };
  await expect(restore(path, server.url, () => {}, cutOff)).rejects.toThrow('stopped');
  await restore(path);
  expect(await redis.get(key)).toBe('old');
  expect(await records.holders()).toEqual([]);
});

it('a process that was let in before a restore began goes away when it has said which master keys it has', async () => {
  const env = { REDIS_URL: server.url, NAMESPACE: namespace, LOG_LEVEL: 'silent', MASTER_KEY: masterKey };
  const config = readConfig(['redis', 'log', 'secrets'], env);
  const resources = await openResources('test', 'worker', config);
  try {
    await redis.set(keys.restoring, 'file');
    await expect(openSecretBox(resources, config)).rejects.toThrow('a backup is being put back');
  } finally {
    await resources.close();
  }
});

describe('a backup', () => {
  it('is not taken of what is half restored, nor while a restore begins', async () => {
    const files = await readdir(dir);
    const begin = async (): Promise<void> => void (await redis.set(keys.restoring, 'file'));
    await expect(back(begin)).rejects.toThrow('run `npm run restore` again');
    await expect(back()).rejects.toThrow('run `npm run restore` again');
    expect(await readdir(dir)).toEqual(files);
  });

  async function take(more: Partial<CopyOptions> = {}): Promise<CopiedKey | undefined> {
    const [reader, listener] = await connectToNode(redis, keys.tag, 2);
    if (!reader || !listener) throw new Error('there is no connection');
    const entries: CopiedKey[] = [];
    const write = async (found: readonly CopiedKey[]): Promise<void> => void entries.push(...found);
    try {
      const rest = { prefix: `${keys.tag}:`, clock, write, onProgress() {} };
      await takeCopy({ reader, listener, ...rest, ...more });
    } finally {
      reader.disconnect();
      listener.disconnect();
    }
    return entries.findLast((entry) => entry.key === key);
  }

  it('misses no change when another backup ends its pause', async () => {
    let isFirst = true;
    const last = await take({
      // Once it was read, so that it is read again in the pause.
      onProgress: async () => void (await redis.set(key, 'between')),
      async atTheEnd() {
        if (!isFirst) return;
        isFirst = false;
        await redis.call('CLIENT', 'UNPAUSE');
        await redis.set(key, 'new');
      },
    });
    expect(last?.value?.toString('latin1')).toContain('new');
  });

  it.each([
    ['is in its last millisecond', 0, (last?: CopiedKey) => (last?.expiresAt ?? 0) > 0],
    ['ends while it is read', -2, (last?: CopiedKey) => last?.value === null],
  ])('never keeps for ever a key that %s', async (_what, left, isRight) => {
    const [reader] = await connectToNode(redis, keys.tag, 1);
    if (!reader) throw new Error('there is no connection');
    const open = reader.pipeline.bind(reader);
    reader.pipeline = () => {
      const pipeline = open();
      const exec = pipeline.exec.bind(pipeline);
      // As Redis says at that moment, between DUMP and PTTL.
      pipeline.exec = (async () =>
        (await exec())?.map(([error, reply]) => [error, typeof reply === 'number' ? left : reply])) as typeof exec;
      return pipeline;
    };
    try {
      await redis.set(key, 'short', 'PX', 600_000);
      expect(isRight(await take({ reader }))).toBe(true);
    } finally {
      reader.disconnect();
    }
  });
});

describe('a second Redis is not started on the data of one that', () => {
  it('runs and does not answer', async () => {
    const home = newFile();
    const running = await startRedis({ dir: home });
    const conf = await readFile(join(home, 'redis.conf'), 'utf8');
    await running.kill('SIGSTOP');
    try {
      const refused = /may use the data in .*it gives no answer.*try again/s;
      await Promise.all([
        expect(runningRedis(home)).rejects.toThrow(refused),
        expect(startRedis({ dir: home, password: 'another' })).rejects.toThrow(refused),
      ]);
      expect(await readFile(join(home, 'redis.conf'), 'utf8')).toBe(conf);
    } finally {
      await running.kill('SIGCONT');
    }
    expect(await runningRedis(home)).toBe(running.url);
    await running.close();
    expect(await runningRedis(home)).toBeNull();
  });

  it('reads its data back, which is waited for', async () => {
    const home = newFile();
    const running = await startRedis({ dir: home });
    await running.close();
    let answers = 0;
    const loading = createServer((socket) => {
      answers += 1;
      const isLoading = answers === 1;
      const dirs = `*2\r\n$3\r\ndir\r\n$${home.length}\r\n${home}\r\n`;
      socket.on('error', () => {}).resume();
      socket.end(`${isLoading ? '-LOADING Redis is loading the dataset in memory' : '+PONG'}\r\n${dirs}+OK\r\n`);
    });
    await new Promise<void>((resolve) => loading.listen(running.port, '127.0.0.1', resolve));
    try {
      expect(await runningRedis(home)).toBe(running.url);
      expect(answers).toBe(2);
    } finally {
      await new Promise((resolve) => loading.close(resolve));
    }
  });
});
