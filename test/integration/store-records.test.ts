import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Certificate } from '#libs/model/certificate';
import type { Credential } from '#libs/model/credential';
import type { IisTarget } from '#libs/model/target';
import { newOrder } from '#libs/model/transitions';
import { pageOf } from '#libs/store/paging';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { checkDurability } from '#libs/store/redis-durability';
import { createStore, type Store } from '#libs/store/store';
import type { Redis as LabRedis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { orderRequest } from '../support/sample-orders.ts';

/** Records, pages, leases and the durability check on a real Redis; a namespace for each test. */
let server: LabRedis;
let redis: RedisClient;

const fresh = (): Store => createStore(redis, `test-${randomUUID()}`);
const target = (id: string, name: string, createdAt = 1): IisTarget => ({
  ...{ id, name, kind: 'iis', createdAt },
  ...{ transport: { kind: 'lab', url: 'http://127.0.0.1:1' }, pool: 'default', windows: [], drift: 'report' as const },
});
const certificate = (id: string, notAfter: number, renewAt: number): Omit<Certificate, 'chain'> => ({
  ...{ id, order: 'ord_1', account: 'acc_1', names: ['a.example.com'], keyType: 'ec-p256', serial: '01', issuer: 'CA' },
  ...{ thumbprint: 'AB', notBefore: 0, notAfter, renewAt, createdAt: 1, leaf: 'leaf', privateKey: 'k' },
});

beforeAll(async () => {
  server = await startTestRedis('always');
  redis = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis?.disconnect();
  await server?.close();
});

describe('a page', () => {
  async function walk(index: string, limit: number, between = async (_page: number) => {}): Promise<string[]> {
    const seen: string[] = [];
    let cursor: string | undefined;
    for (let page = 1; page === 1 || cursor !== undefined; page += 1) {
      const { ids, cursor: next } = await pageOf(redis, index, cursor, limit);
      expect(ids.length).toBeLessThanOrEqual(limit);
      expect(page, 'pages without end').toBeLessThan(100);
      seen.push(...ids);
      cursor = next ?? undefined;
      await between(page);
    }
    return seen;
  }

  it.each([1, 2, 3, 7, 10, 11, 100])(
    'of %i rows shows every row once, though many have the same score',
    async (limit) => {
      const index = `{test}:${randomUUID()}`;
      // In ids that a dictionary would sort otherwise than Redis does.
      const ids = ['id', 'ID', 'i_'];
      const rows = Array.from({ length: 21 }, (_, i) => ({
        ...{ score: [5, 5, 5, 7, 9][i % 5] ?? 0, id: `${ids[i % 3]}-${i}` },
      }));
      for (const { score, id } of rows) await redis.zadd(index, String(score), id);
      const newestFirst = rows.toSorted((a, b) => b.score - a.score || (a.id < b.id ? 1 : -1)).map(({ id }) => id);
      expect(await walk(index, limit)).toEqual(newestFirst);
    },
  );

  it('neither repeats nor hides rows when others come and go', async () => {
    const index = `{test}:${randomUUID()}`;
    for (let i = 0; i < 10; i += 1) await redis.zadd(index, '5', `id-${i}`);
    const seen = await walk(index, 3, async (page) => {
      await redis.zadd(index, '5', `id-9-new-${page}`);
      await redis.zadd(index, '6', `newer-${page}`);
      // The row that the cursor names, and one that was seen: neither is needed to go on.
      if (page === 1) await redis.zrem(index, 'id-7', 'id-9');
    });
    expect(seen).toEqual(['id-9', 'id-8', 'id-7', 'id-6', 'id-5', 'id-4', 'id-3', 'id-2', 'id-1', 'id-0']);
  });

  it('of orders placed in the same millisecond shows all of them', async () => {
    const store = fresh();
    const ids = Array.from({ length: 9 }, (_, i) => `ord_${i}`);
    for (const id of ids) await store.orders.place(newOrder(id, orderRequest(), 1_700_000_000_000));
    const seen: string[] = [];
    for (let cursor: string | null | undefined; cursor !== null && seen.length < 100; ) {
      const page = await store.orders.list({ limit: 2, cursor });
      seen.push(...page.orders.map(({ id }) => id));
      cursor = page.cursor;
    }
    expect(seen).toEqual(ids.toReversed());
  });

  it('is empty, and the last, where there is nothing', async () => {
    expect(await pageOf(redis, '{test}:nothing', undefined, 5)).toEqual({ ids: [], cursor: null });
  });
});

describe('a record', () => {
  it('of a unique name is one, however many make it at once', async () => {
    const store = fresh();
    const race = Array.from({ length: 20 }, (_, i) =>
      store.targets.create(target(`tgt_${i}`, i % 2 ? 'web01' : 'WEB01')),
    );
    const made = await Promise.all(race);
    const winners = new Set(made.map(({ record }) => record.id));
    expect(winners.size).toBe(1);
    expect(made.filter(({ created }) => created)).toHaveLength(1);
    expect(await store.targets.count()).toBe(1);
    const { records } = await store.targets.list({ limit: 10 });
    expect(records.map(({ id }) => id)).toEqual([...winners]);
    expect(await store.targets.findByName('web01')).toEqual(records[0]);
    expect(await redis.keys(store.keys.target('*').replace(/[{}]/g, '?'))).toHaveLength(1);
  });

  it('takes a name over whose maker died before it wrote the record', async () => {
    const store = fresh();
    await redis.hset(store.keys.targetByName, 'web01', 'tgt_never_written');
    expect(await store.targets.create(target('tgt_1', 'web01'))).toMatchObject({ created: true });
    expect(await store.targets.findByName('web01')).toMatchObject({ id: 'tgt_1' });
  });

  it('that is made twice is there once, as it was made first', async () => {
    const store = fresh();
    const first = certificate('crt_1', 100, 50);
    await store.certificates.create(first, 'chain');
    await store.certificates.create({ ...first, serial: '02' }, 'chain');
    expect(await store.certificates.get('crt_1')).toMatchObject(first);
    expect(await store.certificates.count()).toBe(1);
  });

  it('is replaced by put, and leaves the list as it was', async () => {
    const store = fresh();
    await store.targets.create(target('tgt_1', 'web01'));
    await store.targets.put({ ...target('tgt_1', 'web01'), transport: { kind: 'lab', url: 'http://127.0.0.1:2' } });
    expect(await store.targets.get('tgt_1')).toMatchObject({ transport: { url: 'http://127.0.0.1:2' } });
    expect(await store.targets.count()).toBe(1);
  });

  it('is changed on top of what others change at the same time', async () => {
    const store = fresh();
    await store.targets.create(target('tgt_1', '0'));
    const race = Array.from({ length: 20 }, () =>
      store.targets.update('tgt_1', (one) => ({ ...one, createdAt: one.createdAt + 1, name: String(one.createdAt) })),
    );
    expect((await Promise.all(race)).every((one) => one !== null)).toBe(true);
    expect(await store.targets.get('tgt_1')).toMatchObject({ createdAt: 21, name: '20' });
    // Also on top of a `put`, which does not look.
    let calls = 0;
    const changed = await store.targets.update('tgt_1', (one) => {
      calls += 1;
      return { ...one, pool: `${one.pool}-${calls}` };
    });
    expect(changed).toMatchObject({ pool: 'default-1' });
    let raced = false;
    const over = await store.targets.update('tgt_1', (one) => {
      if (!raced) void store.targets.put({ ...one, pool: 'put' });
      raced = true;
      return { ...one, name: 'last' };
    });
    expect(over).toMatchObject({ pool: 'put', name: 'last' });
    expect(await store.targets.update('tgt_9', (one) => one)).toBeNull();
    expect(await store.targets.get('tgt_9')).toBeNull();
  });

  it('takes a new name with it, and frees the old one', async () => {
    const store = fresh();
    await store.targets.create(target('tgt_1', 'web01'));
    await store.targets.create(target('tgt_2', 'web02'));
    const rename = (name: string) => store.targets.update('tgt_1', (one) => ({ ...one, name }));
    await expect(rename('WEB02')).rejects.toMatchObject({
      code: 'name_taken',
      message: expect.stringContaining('tgt_2'),
    });
    expect(await store.targets.get('tgt_1')).toMatchObject({ name: 'web01' });
    expect(await rename('web03')).toMatchObject({ id: 'tgt_1', name: 'web03' });
    expect(await store.targets.findByName('web01')).toBeNull();
    expect(await store.targets.findByName('web03')).toMatchObject({ id: 'tgt_1' });
    expect(await store.targets.create(target('tgt_3', 'web01'))).toMatchObject({ created: true });
  });

  it('is removed with its name, its indexes and what belongs to it, in one step', async () => {
    const store = fresh();
    const before = (await redis.keys('*')).length;
    const credential: Credential = {
      ...{ id: 'cred_1', name: 'web', kind: 'ssh', username: 'svc', method: 'password', createdAt: 1 },
    };
    await store.credentials.create(credential, [store.secrets.putting('credential.cred_1', 'sealed')]);
    expect(await store.secrets.get('credential.cred_1')).toBe('sealed');
    await store.credentials.update('cred_1', (one) => one, [store.secrets.putting('credential.cred_1', 'again')]);
    expect(await store.secrets.get('credential.cred_1')).toBe('again');
    for (let i = 0; i < 2; i += 1)
      await store.credentials.remove('cred_1', [store.secrets.removing('credential.cred_1')]);
    expect((await redis.keys('*')).length).toBe(before);
    expect(await store.credentials.create(credential)).toMatchObject({ created: true });
  });

  it('of a certificate is found by its thumbprint', async () => {
    const store = fresh();
    const first = { ...certificate('crt_1', 100, 60), thumbprint: 'A1' };
    await store.certificates.create(first, 'chain');
    await store.certificates.create({ ...certificate('crt_2', 100, 60), thumbprint: 'A2' }, 'chain');
    expect(await store.certificates.findByThumbprint('A1')).toMatchObject(first);
    expect(await store.certificates.findByThumbprint('A3')).toBeNull();
    expect(await store.certificates.knownThumbprints(['A3', 'A2', 'A1'])).toEqual(new Set(['A2', 'A1']));
    expect(await store.certificates.knownThumbprints([])).toEqual(new Set());
  });

  it('of a certificate is counted by its end and its renewal', async () => {
    const store = fresh();
    await store.certificates.create(certificate('crt_1', 100, 60), 'chain');
    await store.certificates.create(certificate('crt_2', 200, 120), 'chain');
    expect(await store.certificates.countExpiring(100, 200)).toBe(1);
    expect(await store.certificates.countExpiring(99, 200)).toBe(2);
    expect(await store.certificates.nextExpiry(0)).toBe(100);
    expect(await store.certificates.nextExpiry(100)).toBe(200);
    expect(await store.certificates.nextExpiry(200)).toBeNull();
    expect(await store.certificates.countRenewalDue(59)).toBe(0);
    expect(await store.certificates.countRenewalDue(120)).toBe(2);
  });

  it('shares its chain with others that have the same', async () => {
    const store = fresh();
    await store.certificates.create(certificate('crt_1', 100, 60), 'chain');
    await store.certificates.create(certificate('crt_2', 100, 60), 'chain');
    await store.certificates.create(certificate('crt_3', 100, 60), 'other');
    const [one = '', two, three] = await Promise.all(
      ['crt_1', 'crt_2', 'crt_3'].map(async (id) => (await store.certificates.get(id))?.chain),
    );
    expect(two).toBe(one);
    expect(three).not.toBe(one);
    expect(await store.certificates.getChain(one)).toBe('chain');
  });
});

describe('a secret', () => {
  it('is the first that was kept under its name', async () => {
    const store = fresh();
    const race = Array.from({ length: 10 }, (_, i) => store.secrets.putOnce('account-key', `sealed-${i}`));
    const kept = new Set(await Promise.all(race));
    expect(kept.size).toBe(1);
    expect(await store.secrets.get('account-key')).toBe([...kept][0]);
    expect(await store.secrets.get('other')).toBeNull();
  });
});

describe('a lease', () => {
  it('holds up none of another name', async () => {
    const { leases } = fresh();
    await leases.hold('loop', 60_000, async () => {
      expect(await leases.hold('other', 60_000, async () => 'other')).toEqual({ result: 'other' });
    });
  });

  it('that lapsed is not taken from its next holder', async () => {
    const store = fresh();
    const key = store.keys.lease('loop');
    await store.leases.hold('loop', 60_000, async () => {
      expect(await redis.pttl(key)).toBeGreaterThan(59_000);
      await redis.set(key, 'the next holder');
    });
    expect(await redis.get(key)).toBe('the next holder');
  });
});

describe('a lease that is held until its work has ended', () => {
  it('is renewed for as long as that takes, and free at once afterwards', async () => {
    const { leases, keys } = fresh();
    const held = await leases.hold('host', 300, async (lost) => {
      const lives: number[] = [];
      for (let i = 0; i < 8; i += 1) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        lives.push(await redis.pttl(keys.lease('host')));
      }
      expect(await leases.hold('host', 300, async () => 'second')).toBeNull();
      expect(lost.aborted).toBe(false);
      return Math.min(...lives);
    });
    expect(held?.result).toBeGreaterThan(0);
    expect(await redis.exists(keys.lease('host'))).toBe(0);
    expect(await leases.hold('host', 300, async () => 'third')).toEqual({ result: 'third' });
  });

  it('is free after a failure', async () => {
    const { leases } = fresh();
    const failing = leases.hold('host', 60_000, async () => {
      throw new Error('it failed');
    });
    await expect(failing).rejects.toThrow('it failed');
    expect(await leases.hold('host', 60_000, async () => 'next')).toEqual({ result: 'next' });
  });

  it('is taken up again when it lapsed and nobody took it', async () => {
    const { leases, keys } = fresh();
    await leases.hold('host', 300, async (lost) => {
      await redis.del(keys.lease('host'));
      await vi.waitUntil(async () => (await redis.exists(keys.lease('host'))) === 1);
      expect(lost.aborted).toBe(false);
    });
    expect(await redis.exists(keys.lease('host'))).toBe(0);
  });
});

describe('a lease of a Redis whose clock was set back', () => {
  it('ends no later than one that is taken now', async () => {
    const { leases, keys } = fresh();
    await redis.set(keys.lease('host'), 'of one who died', 'PX', 3_600_000);
    expect(await leases.hold('host', 5_000, async () => 'mine')).toBeNull();
    expect(await redis.pttl(keys.lease('host'))).toBeLessThanOrEqual(5_000);
    await redis.del(keys.lease('host'));
  });
});

describe('the check of durability', () => {
  const check = async (...settings: [string, string][]) => {
    for (const [name, value] of settings) await redis.config('SET', name, value);
    return checkDurability(redis);
  };
  const safe: [string, string][] = [
    ...([
      ['appendonly', 'yes'],
      ['appendfsync', 'always'],
      ['maxmemory-policy', 'noeviction'],
    ] as [string, string][]),
  ];

  it('is content with a Redis that keeps what it acknowledged', async () => {
    expect(await check(...safe)).toEqual({
      ...{ durable: true, appendonly: 'yes', appendfsync: 'always', maxmemoryPolicy: 'noeviction', warnings: [] },
    });
  });

  it.each(['allkeys-lru', 'volatile-ttl', 'allkeys-random'])(
    'refuses a Redis that may evict orders: %s',
    async (policy) => {
      await expect(check(...safe, ['maxmemory-policy', policy])).rejects.toMatchObject({
        ...{ code: 'store_unavailable', plan: { kind: 'permanent' }, message: expect.stringContaining(policy) },
      });
    },
  );

  it('warns of a Redis that may lose the last second, or everything', async () => {
    const everysec = await check(...safe, ['appendfsync', 'everysec']);
    expect(everysec).toMatchObject({ durable: false, appendfsync: 'everysec' });
    expect(everysec.warnings).toEqual([expect.stringMatching(/appendfsync is everysec.*always/)]);
    const none = await check(...safe, ['appendonly', 'no']);
    expect(none).toMatchObject({ durable: false, appendonly: 'no' });
    expect(none.warnings).toEqual([expect.stringMatching(/appendonly is no.*yes/)]);
  });

  it('reads what INFO tells where CONFIG is hidden, and says what it does not know', async () => {
    await check(...safe);
    await redis.call('ACL', 'SETUSER', 'hosted', 'on', '>secret', '~*', '+@all', '-config');
    const hosted = connectRedis(server.url.replace('//', '//hosted:secret@'), 'worker', () => {});
    try {
      expect(await checkDurability(hosted)).toMatchObject({
        ...{ durable: false, appendonly: 'yes', appendfsync: 'unknown', maxmemoryPolicy: 'noeviction' },
        warnings: [expect.stringMatching(/appendfsync is unknown/)],
      });
      await redis.call('ACL', 'SETUSER', 'hosted', '-info');
      const unknown = 'unknown';
      expect(await checkDurability(hosted)).toMatchObject({
        ...{ durable: false, appendonly: unknown, appendfsync: unknown, maxmemoryPolicy: unknown },
      });
      await redis.call('ACL', 'SETUSER', 'hosted', '+info');
      await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
      await expect(checkDurability(hosted)).rejects.toThrow(/maxmemory-policy allkeys-lru/);
    } finally {
      hosted.disconnect();
    }
  });
});
