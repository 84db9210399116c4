import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { readConfig } from '#libs/config';
import { cancelled } from '#libs/model/transitions';
import { checkMasterKeys } from '#libs/service/open-secret-box';
import { openResources } from '#libs/service/resources';
import { parseMasterKeys } from '#libs/store/master-keys';
import { connectRedis, type RedisTls } from '#libs/store/redis';
import { createSecretBox } from '#libs/store/secret-box';
import { createStore } from '#libs/store/store';
import { backUp } from '../../services/backup/back-up.ts';
import { connectToNode } from '../../services/backup/key-node.ts';
import { restoreCopy } from '../../services/backup/restore-copy.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { startRedisCluster } from '../../services/lab/redis-cluster.ts';
import { dumpRedis } from '../support/api-session.ts';
import { startGuardedRedis } from '../support/guarded-redis.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { readText } from '../support/source-tree.ts';

/** Copies of an installation that runs, and what becomes of them. */
const masterKey = `test:${randomBytes(32).toString('base64')}`;
let server: Redis;
/** Where copies are put. */
let other: Redis;
let pipeline: Pipeline;
let namespace: string;
let dir: string;

beforeAll(async () => {
  [server, other] = await Promise.all([startTestRedis(), startTestRedis()]);
  dir = await mkdtemp(join(tmpdir(), 'certline-backup-'));
  pipeline = openPipeline(server);
  namespace = pipeline.store.keys.tag.slice(1, -1);
  const proof = createSecretBox(parseMasterKeys(masterKey)).seal('master-key-proof', 'test');
  await pipeline.store.masterKeys.announce({ process: 'ended', keys: [['test', '']] }, proof, 1);
  await Promise.all(Array.from({ length: 300 }, () => pipeline.place()));
});
afterAll(async () => {
  await pipeline.close();
  await Promise.all([server.close(), other.close()]);
  await rm(dir, { recursive: true, force: true });
});

const back = (name: string, onProgress: () => void | Promise<void> = () => {}) =>
  backUp({ path: join(dir, name), redis: pipeline.redis, namespace, clock, onProgress });

interface Restoring {
  replace?: boolean;
  namespace?: string;
  keys?: string;
  onProgress?: () => void;
  url?: string;
  tls?: RedisTls;
}

async function restore(name: string, how: Restoring = {}): Promise<void> {
  const { replace = false, keys = masterKey, onProgress = () => {}, url = other.url, tls = {} } = how;
  const redis = connectRedis(url, 'worker', () => {}, tls);
  const [node] = await connectToNode(redis, `{${namespace}}`, 1);
  if (!node) throw new Error('there is no connection');
  const check = (proofs: Readonly<Record<string, string>>): void => checkMasterKeys(keys, proofs);
  try {
    const path = join(dir, name);
    const options = { path, redis: node, namespace: how.namespace ?? namespace, replace, onProgress };
    await restoreCopy({ ...options, checkMasterKeys: check });
  } finally {
    node.disconnect();
    redis.disconnect();
  }
}

/** All keys, each with a digest of what is in it. */
async function contentOf(url: string): Promise<string[]> {
  const redis = connectRedis(url, 'worker', () => {});
  const dump = await dumpRedis(redis);
  redis.disconnect();
  return [...dump].map(([key, content]) => `${key} ${createHash('sha256').update(content).digest('hex').slice(0, 16)}`);
}

/** How often anything was changed there. */
async function changesOf(url: string): Promise<string | undefined> {
  const redis = connectRedis(url, 'worker', () => {});
  const changes = /rdb_changes_since_last_save:(\d+)/.exec(await redis.info('persistence'))?.[1];
  redis.disconnect();
  return changes;
}

describe('a copy', () => {
  it('has every key as it is, with the time it has left, and is for this user alone', async () => {
    const { idempotency } = pipeline.store.keys;
    await pipeline.redis.set(idempotency('a'), 'x', 'PX', 600_000);
    await back('whole');
    await restore('whole');
    expect(await contentOf(other.url)).toEqual(await contentOf(server.url));
    const redis = connectRedis(other.url, 'worker', () => {});
    const left = await redis.pttl(idempotency('a'));
    redis.disconnect();
    expect(left).toBeGreaterThan(500_000);
    expect(left).toBeLessThanOrEqual(600_000);
    expect((await stat(join(dir, 'whole'))).mode & 0o777).toBe(0o600);
    await expect(back('whole')).rejects.toThrow('is there already');
  });

  it('is of one moment, while orders are placed and changed', async () => {
    const writers = Array.from({ length: 4 }, (): string[] => []);
    let isDone = false;
    const writing = writers.map(async (placed) => {
      while (!isDone) {
        const order = await pipeline.place();
        placed.push(order.id);
        const { orders } = pipeline.store;
        await orders.save(order, cancelled(order, clock.now()), [{ type: 'order_cancelled', at: clock.now() }]);
      }
    });
    // What was acknowledged before is in it in any case.
    while (writers.some((placed) => placed.length < 5)) await clock.sleep(1);
    const before = writers.map((placed) => placed.length - 1);
    // And so is what comes after every page that was copied.
    await back('moment', async () => {
      const { length } = writers.flat();
      while (writers.flat().length < length + 8) await clock.sleep(1);
    });
    isDone = true;
    await Promise.all(writing);
    await restore('moment', { replace: true });

    const redis = connectRedis(other.url, 'worker', () => {});
    const { orders, keys } = createStore(redis, namespace);
    const listed = new Set(await redis.zrange(keys.orders, 0, '-1'));
    for (const [at, placed] of writers.entries()) {
      const missing = placed.findIndex((id) => !listed.has(id));
      const count = missing < 0 ? placed.length : missing;
      expect(count).toBeGreaterThanOrEqual(before[at] ?? 0);
      // Each writer places one after the other: none that is missing comes before one that is there.
      expect(placed.slice(count).filter((id) => listed.has(id))).toEqual([]);
      // All but the last of them had been called off.
      for (const id of placed.slice(0, Math.max(0, count - 1)))
        expect(await redis.zscore(keys.ordersByStatus('cancelled'), id)).not.toBeNull();
    }
    for (const id of listed) {
      const order = await orders.get(id);
      expect(order, id).not.toBeNull();
      if (order) expect(await redis.zscore(keys.ordersByStatus(order.status), id), id).not.toBeNull();
    }
    expect((await redis.keys(keys.order('*'))).length).toBe(listed.size);
    redis.disconnect();
  });

  it('leaves nothing when it fails: when it is stopped, or no longer told of changes', async () => {
    const files = await readdir(dir);
    const stop = (): void => {
      throw new Error('stopped');
    };
    await expect(back('stopped', stop)).rejects.toThrow('stopped');
    const killing: Promise<unknown>[] = [];
    const kill = (): void => void killing.push(pipeline.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    await expect(back('deaf', kill)).rejects.toThrow('Connection is closed');
    await Promise.all(killing);
    expect(await readdir(dir)).toEqual(files);
  });

  it('can be taken and put back over TLS, by the user that the README names for it', async () => {
    const [, line = ''] = /^(user certline-backup on .*)$/m.exec(readText('README.md')) ?? [];
    const user = line.replace(/>\S+/, '>of-backups').replace('{certline}', `{${namespace}}`);
    const guarded = await startGuardedRedis([user]);
    try {
      const [url, tls] = [`rediss://certline-backup:of-backups@localhost:${guarded.port}`, { ca: guarded.ca }];
      await back('for-the-guarded');
      await restore('for-the-guarded', { url, tls });
      const redis = connectRedis(url, 'worker', () => {}, tls);
      await backUp({ path: join(dir, 'of-the-guarded'), redis, namespace, clock, onProgress: () => {} });
      redis.disconnect();
      await restore('of-the-guarded', { replace: true });
      expect(await contentOf(other.url)).toEqual(await contentOf(server.url));
    } finally {
      await guarded.close();
    }
  });

  it('goes into a Redis Cluster and out of one', async () => {
    const cluster = await startRedisCluster(join(dir, 'cluster'));
    try {
      await back('for-the-cluster');
      await restore('for-the-cluster', { url: cluster.url });
      const redis = connectRedis(cluster.url, 'worker', () => {});
      await backUp({ path: join(dir, 'of-the-cluster'), redis, namespace, clock, onProgress: () => {} });
      redis.disconnect();
      await restore('of-the-cluster', { replace: true });
      expect(await contentOf(other.url)).toEqual(await contentOf(server.url));
    } finally {
      await cluster.close();
    }
  });
});

describe('a copy is not put back, and nothing is changed', () => {
  let whole: Buffer;
  beforeAll(async () => {
    await back('good');
    whole = await readFile(join(dir, 'good'));
    await restore('good', { replace: true });
  });

  const changed = (change: (bytes: Buffer) => Buffer) => async (): Promise<string> => {
    await writeFile(join(dir, 'changed'), change(Buffer.from(whole)));
    return 'changed';
  };
  const flipped = (bytes: Buffer, at: number): Buffer => {
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    return bytes;
  };
  const good = async (): Promise<string> => 'good';
  const replace = true;

  it.each<[string, RegExp, () => Promise<string>, Restoring]>([
    ['cut off', /cut off or was changed/, changed((bytes) => bytes.subarray(0, bytes.length / 2)), { replace }],
    ['cut off by a byte', /cut off or was changed/, changed((bytes) => bytes.subarray(0, -1)), { replace }],
    ['longer', /cut off or was changed/, changed((bytes) => Buffer.concat([bytes, bytes])), { replace }],
    ['changed', /checksum does not fit/, changed((bytes) => flipped(bytes, bytes.length - 40)), { replace }],
    [
      'changed in the middle',
      /cut off or was changed/,
      changed((bytes) => flipped(bytes, bytes.length >> 1)),
      { replace },
    ],
    ['something else', /no backup of certline/, changed(() => Buffer.from('REDIS0010 and so on')), { replace }],
    [
      'of a newer certline',
      /newer certline \(format 2/,
      changed((bytes) =>
        Buffer.from(bytes.toString('latin1').replace('"certlineBackup":1', '"certlineBackup":2'), 'latin1'),
      ),
      { replace },
    ],
    ['of another namespace', /is of namespace test-\d+, and NAMESPACE is other/, good, { replace, namespace: 'other' }],
    [
      'sealed with a key that is missing',
      /"test", which is missing/,
      good,
      { replace, keys: masterKey.replace('test', 'x') },
    ],
    [
      'sealed with another key',
      /another key of that id/,
      good,
      { replace, keys: `test:${randomBytes(32).toString('base64')}` },
    ],
    ['and the place is taken', /has keys of namespace test-\d+ already: --replace/, good, {}],
  ])('when it is %s', async (_what, message, make, how) => {
    const before = await changesOf(other.url);
    await expect(restore(await make(), how)).rejects.toThrow(message);
    expect(await changesOf(other.url)).toBe(before);
  });

  it('while services run there', async () => {
    const redis = connectRedis(other.url, 'worker', () => {});
    const { masterKeys, keys } = createStore(redis, namespace);
    await masterKeys.announce({ process: 'web01, pid 7', keys: [['test', '']] }, 'kept already', 60_000);
    const before = await changesOf(other.url);
    await expect(restore('good', { replace })).rejects.toThrow('web01, pid 7');
    expect(await changesOf(other.url)).toBe(before);
    await redis.del(keys.keyHolders);
    redis.disconnect();
  });
});

describe('a restore that is cut off', () => {
  beforeEach(async () => {
    await rm(join(dir, 'again'), { force: true });
    await back('again');
  });

  it('keeps services from starting, until it is run again', async () => {
    const stop = (): void => {
      throw new Error('stopped');
    };
    await expect(restore('again', { replace: true, onProgress: stop })).rejects.toThrow('stopped');
    const config = readConfig(['redis', 'log'], { REDIS_URL: other.url, NAMESPACE: namespace, LOG_LEVEL: 'silent' });
    await expect(openResources('test', 'worker', config)).rejects.toThrow('run `npm run restore` again');
    await restore('again');
    expect(await contentOf(other.url)).toEqual(await contentOf(server.url));
    await (await openResources('test', 'worker', config)).close();
  });
});
