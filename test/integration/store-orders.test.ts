import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '#libs/model/ids';
import type { Order, OrderRequest, PendingOrder } from '#libs/model/order';
import {
  cancelled,
  deployed,
  failed,
  issued,
  newDeployment,
  newOrder,
  retried,
  validated,
} from '#libs/model/transitions';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createStore, type Store } from '#libs/store/store';
import type { Redis as LabRedis } from '../../services/lab/redis.ts';
import { dumpRedis } from '../support/api-session.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { acmeOrder, failure, orderRequest } from '../support/sample-orders.ts';

/** Orders in a real Redis; a namespace for each test. */
let server: LabRedis;
let redis: RedisClient;

const fresh = (): Store => createStore(redis, `test-${randomUUID()}`);
const sample = (more: Partial<OrderRequest> = {}, now = Date.now()): PendingOrder =>
  newOrder(newId('order', now), orderRequest(more), now);
const contentOf = async (store: Store) =>
  new Map([...(await dumpRedis(redis))].filter(([key]) => key.startsWith(store.keys.tag)));
/** Every index that has the order, with its score. */
async function indexesOf(store: Store, id: string): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const key of (await contentOf(store)).keys()) {
    const score = (await redis.type(key)) === 'zset' ? await redis.zscore(key, id) : null;
    if (score !== null) found[key.slice(store.keys.tag.length + 1)] = Number(score);
    if ((await redis.type(key)) === 'set' && (await redis.sismember(key, id)))
      found[key.slice(store.keys.tag.length + 1)] = 1;
  }
  return found;
}
async function place(store: Store, order: Order = sample()): Promise<Order> {
  return (await store.orders.place(order)).order;
}
async function save<T extends Order>(store: Store, previous: Order, next: T): Promise<T> {
  const saved = await store.orders.save(previous, next, []);
  if (saved === null) throw new Error('not saved');
  return saved;
}

beforeAll(async () => {
  server = await startTestRedis('always');
  redis = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis?.disconnect();
  await server?.close();
});

describe('what belongs to an order', () => {
  it('is stored with the save that says so', async () => {
    const store = fresh();
    const order = await place(store);
    const key = `${store.keys.tag}:belongs`;
    await store.orders.save(order, order, [], [['SET', key, 'sealed']]);
    expect(await redis.get(key)).toBe('sealed');
  });

  it('is not stored when somebody else was faster', async () => {
    const store = fresh();
    const order = await place(store);
    await save(store, order, order);
    const key = `${store.keys.tag}:belongs`;
    expect(await store.orders.save(order, order, [], [['SET', key, 'sealed']])).toBeNull();
    expect(await redis.get(key)).toBeNull();
  });
});

describe('an order', () => {
  it('is placed whole: record, indexes and its first event', async () => {
    const store = fresh();
    const order = sample({}, 1_700_000_000_000);
    const { order: placed, created } = await store.orders.place(order);
    expect({ placed, created }).toEqual({ placed: { ...order, version: 1 }, created: true });
    expect(await store.orders.get(order.id)).toEqual(placed);
    const at = 1_700_000_000_000;
    expect(await indexesOf(store, order.id)).toEqual({
      ...{ orders: at, 'orders:status:pending': at, 'orders:open': at + 5_000 },
      ...{ 'orders:name:a.example.com': at, 'orders:name:b.example.com': at, 'orders:target:tgt_1': 1 },
    });
    expect(await store.history(order.id)).toMatchObject([{ id: '1-0', type: 'order_placed', order: order.id, at }]);
  });

  it('is placed once: placing it again changes nothing', async () => {
    const store = fresh();
    const order = sample();
    await place(store, order);
    const before = await contentOf(store);
    await store.orders.place(order);
    expect(await contentOf(store)).toEqual(before);
  });

  it('is saved once when the same write is sent twice, as ioredis does after a reconnect', async () => {
    const store = fresh();
    const order = await place(store);
    const key = store.keys.order(order.id);
    const history = store.keys.orderHistory(order.id);
    const commands = JSON.stringify([
      ['HSET', key, 'version', '2', 'write', 'token-1'],
      ['RPUSH', history, 'event'],
    ]);
    expect(await redis.commit(key, '1', 'token-1', commands)).toBe(1);
    expect(await redis.commit(key, '1', 'token-1', commands)).toBe(1);
    expect(await redis.lrange(history, 1, -1)).toEqual(['event']);
    // Another write from the same version has lost.
    expect(await redis.commit(key, '1', 'token-2', commands)).toBe(0);
    expect(await redis.llen(history)).toBe(2);
  });

  it('is placed once when the same placing is sent twice', async () => {
    const store = fresh();
    const [key, list] = [store.keys.idempotency('k'), store.keys.orderHistory('x')];
    const commands = JSON.stringify([['RPUSH', list, 'event']]);
    expect(await redis.placeOnce(key, 'mine', '60000', commands)).toBe('mine');
    expect(await redis.placeOnce(key, 'mine', '60000', commands)).toBe('mine');
    expect(await redis.placeOnce(key, 'other', '60000', commands)).toBe('mine');
    expect(await redis.lrange(list, 0, -1)).toEqual(['event']);
    expect(await redis.pttl(key)).toBeGreaterThan(50_000);
  });

  it('is changed by one of those who read the same version', async () => {
    const store = fresh();
    const order = await place(store);
    const saves = Array.from({ length: 10 }, (_, i) =>
      store.orders.save(order, { ...order, updatedAt: i }, [{ type: 'stage_progress', at: i }]),
    );
    const won = (await Promise.all(saves)).filter((saved) => saved !== null);
    expect(won).toHaveLength(1);
    expect(await store.orders.get(order.id)).toEqual({ ...won[0], version: 2 });
    expect(await store.history(order.id)).toHaveLength(2);
  });

  it('is not brought back by a save when it is gone', async () => {
    const store = fresh();
    const order = await place(store);
    await redis.del(store.keys.order(order.id));
    const before = await contentOf(store);
    expect(await store.orders.save(order, order, [{ type: 'stage_started', at: 1 }])).toBeNull();
    expect(await contentOf(store)).toEqual(before);
  });

  it('is in the indexes of its status and in no other, all the way', async () => {
    const store = fresh();
    const at = 1_700_000_000_000;
    const pending = (await place(store, sample({}, at))) as PendingOrder;
    const always = { orders: at, 'orders:name:a.example.com': at, 'orders:name:b.example.com': at };
    const everywhere = { ...always, 'orders:target:tgt_1': 1 };
    const { id } = pending;

    const waiting = await save(store, pending, { ...pending, nextAttemptAt: at + 60_000 });
    expect(await indexesOf(store, id)).toEqual({
      ...everywhere,
      'orders:status:pending': at,
      'orders:open': at + 65_000,
    });
    const parked = await save(store, waiting, { ...waiting, parkedOn: 'acc_1', nextAttemptAt: null });
    expect(await indexesOf(store, id)).toEqual({
      ...everywhere,
      'orders:status:pending': at,
      'orders:parked:acc_1': 1,
    });
    expect(await store.orders.parked('acc_1')).toEqual([id]);
    const resumed = await save(store, parked, { ...parked, parkedOn: null });
    expect(await indexesOf(store, id)).toEqual({
      ...everywhere,
      'orders:status:pending': at,
      'orders:open': at + 5_000,
    });

    const proved = await save(store, resumed, validated(resumed, acmeOrder, at + 1));
    expect(await indexesOf(store, id)).toEqual({
      ...everywhere,
      'orders:status:validated': at,
      'orders:open': at + 5_001,
    });
    const made = await save(store, proved, issued(proved, 'crt_1', at + 2));
    const inDeployment = { 'orders:status:issued': at, 'orders:open': at + 5_002, 'orders:due:tgt_1': 0 };
    expect(await indexesOf(store, id)).toEqual({ ...everywhere, ...inDeployment });
    expect(await store.orders.due('tgt_1', at + 2, 10)).toEqual([id]);
    // At once, whatever the clock of the machine that asks.
    expect(await store.orders.nextDue('tgt_1')).toBe(0);
    const done = await save(store, made, deployed(made, at + 3));
    expect(await indexesOf(store, id)).toEqual({ ...always, 'orders:status:deployed': at });
    expect(await store.orders.nextDue('tgt_1')).toBeNull();
    expect(await store.orders.get(id)).toEqual(done);
    expect(await store.orders.count('deployed')).toBe(1);
    expect(await store.orders.count('issued')).toBe(0);
  });

  it('leaves what is still to do when it ends early', async () => {
    const store = fresh();
    const pending = (await place(store)) as PendingOrder;
    const proved = await save(store, pending, validated(pending, acmeOrder, 2));
    const made = await save(store, proved, issued(proved, 'crt_1', 3));
    const bad = await save(store, made, failed(made, 'deployment', { ...failure, stage: 'deployment' }, 4));
    expect(Object.keys(await indexesOf(store, bad.id)).filter((index) => /open|due|status|target/.test(index))).toEqual(
      ['orders:failed:target:tgt_1', 'orders:status:failed'],
    );
    const other = await place(store);
    await save(store, other, cancelled(other, 5));
    expect(
      Object.keys(await indexesOf(store, other.id)).filter((index) => /open|due|status|target/.test(index)),
    ).toEqual(['orders:status:cancelled']);
    expect(await store.orders.overdue(Number.MAX_SAFE_INTEGER, 10)).toEqual([]);
  });

  it('is on the list of its target while it is unfinished, again after a retry, and not when it is deployed nowhere', async () => {
    const store = fresh();
    await place(store, sample({ deploy: { mode: 'none' } }));
    const pending = await place(store);
    expect(await store.orders.unfinishedAt('tgt_1')).toEqual([pending.id]);
    const bad = await save(store, pending, failed(pending, 'validation', failure, 2));
    expect(await store.orders.unfinishedAt('tgt_1')).toEqual([]);
    const again = await save(store, bad, retried(bad, 'validation', 3));
    expect(await store.orders.unfinishedAt('tgt_1')).toEqual([pending.id]);
    await save(store, again, cancelled(again, 4));
    expect(await store.orders.unfinishedAt('tgt_1')).toEqual([]);
    const { order } = await store.orders.place(newDeployment('ord_2', orderRequest(), 'crt_1', 5));
    expect(order.identifiers.map(({ status }) => status)).toEqual(['valid', 'valid']);
    expect(await store.orders.unfinishedAt('tgt_1')).toEqual(['ord_2']);
    expect(await store.orders.due('tgt_1', 5, 10)).toEqual(['ord_2']);
  });

  it('is looked at by the reconciler when it is overdue, and not before', async () => {
    const store = fresh();
    const at = 1_700_000_000_000;
    const late = await place(store, sample({}, at));
    const later = await place(store, sample({}, at + 1_000));
    expect(await store.orders.overdue(at + 4_999, 10)).toEqual([]);
    expect(await store.orders.overdue(at + 5_000, 10)).toEqual([late.id]);
    expect(await store.orders.overdue(at + 6_000, 1)).toEqual([late.id]);
    await store.orders.lookAgain(late.id, at + 20_000);
    expect(await store.orders.overdue(at + 6_000, 10)).toEqual([later.id]);
    await store.orders.lookAgain('ord_gone', at);
    expect(await store.orders.overdue(at + 20_000, 10)).toEqual([later.id, late.id]);
  });

  it('shows the answers to its challenges from the very commit that presents them to the one that drops them', async () => {
    const store = fresh();
    const pending = (await place(store)) as PendingOrder;
    const expires = Date.now() + 60_000;
    const challenge = (token: string) =>
      ({
        type: 'http-01',
        via: 'responder',
        name: 'a.example.com',
        token,
        keyAuthorization: `${token}.key`,
        expires,
      }) as const;
    const [kept, dropped] = ['kept', 'dropped'];
    const shown = await save(store, pending, { ...pending, presented: [challenge(kept), challenge(dropped)] });
    const seen = () => Promise.all([kept, dropped].map(store.challengeAnswers.get));
    expect(await seen()).toEqual(['kept.key', 'dropped.key']);

    // The net under an order that never drops them.
    expect(await redis.pexpiretime(store.keys.challenge(kept))).toBe(expires);
    // A save that loses neither shows anything nor takes it away.
    expect(await store.orders.save(pending, { ...pending, presented: [challenge('lost')] }, [])).toBeNull();
    expect(await store.challengeAnswers.get('lost')).toBeNull();
    expect(await store.orders.save(pending, cancelled(shown, 1), [])).toBeNull();
    expect(await seen()).toEqual(['kept.key', 'dropped.key']);
    const fewer = await save(store, shown, { ...shown, presented: [challenge(kept)] });
    expect(await seen()).toEqual(['kept.key', null]);
    // Presented again: two orders may share a challenge, and the other may have taken its answer away.
    await redis.del(store.keys.challenge(kept));
    const again = await save(store, fewer, { ...fewer, presented: [challenge(kept)] });
    expect(await seen()).toEqual(['kept.key', null]);
    await save(store, again, cancelled(again, 2));
    expect(await seen()).toEqual([null, null]);
  });
});

describe('the history of an order', () => {
  it('keeps the newest 200 events, each with an id of its own that grows', async () => {
    const store = fresh();
    let order = await place(store);
    for (let i = 0; i < 150; i += 1) {
      const events = [
        { type: 'stage_started', at: i },
        { type: 'stage_progress', at: i, detail: `${i}` },
      ] as const;
      const saved = await store.orders.save(order, order, [...events]);
      if (saved) order = saved;
    }
    const history = await store.history(order.id);
    expect(history).toHaveLength(200);
    expect(history.at(-1)).toMatchObject({ id: '151-1', detail: '149' });
    expect(history[0]).toMatchObject({ id: '52-0' });
    expect(new Set(history.map(({ id }) => id)).size).toBe(200);
  });
});

describe('an idempotency key', () => {
  it('gives one order to all who race for it', async () => {
    const store = fresh();
    const race = Array.from({ length: 20 }, () => store.orders.place(sample(), { key: 'k', body: 'b' }));
    const placed = await Promise.all(race);
    expect(new Set(placed.map(({ order }) => order.id)).size).toBe(1);
    expect(placed.filter(({ created }) => created)).toHaveLength(1);
    expect(await redis.zcard(store.keys.orders)).toBe(1);
    expect(await store.orders.placedWith({ key: 'k', body: 'b' })).toEqual(placed[0]?.order);
    expect(await store.orders.placedWith({ key: 'other', body: 'b' })).toBeNull();
  });

  it('refuses another body, keeps neither key nor body in clear, and is forgotten after seven days', async () => {
    const store = fresh();
    const { order } = await store.orders.place(sample(), { key: 'planted-key', body: 'planted-body' });
    const another = store.orders.place(sample(), { key: 'planted-key', body: 'x' });
    await expect(another).rejects.toMatchObject({
      code: 'idempotency_key_reused',
      message: expect.stringContaining(order.id),
    });
    expect(await redis.zcard(store.keys.orders)).toBe(1);
    const content = await contentOf(store);
    expect([...content].flat().join('\n')).not.toContain('planted');
    const key = [...content.keys()].find((name) => name.includes(':idempotency:')) ?? '';
    expect(Math.round((await redis.pttl(key)) / 60_000)).toBe(7 * 24 * 60);
  });
});

describe('everything in Redis', () => {
  it('has the hash tag of its namespace, so that a cluster keeps it together', async () => {
    const store = fresh();
    const name = store.keys.tag;
    const order = await store.orders.place(sample(), { key: 'k', body: 'b' });
    await save(store, order.order, { ...order.order, parkedOn: 'acc_1' });
    const keys = Object.values(store.keys).map((key: unknown) =>
      typeof key === 'function' ? (key as (id: string) => string)('x') : String(key),
    );
    expect(keys.length).toBeGreaterThan(20);
    expect(new Set(keys).size).toBe(keys.length);
    for (const key of keys) expect(key.startsWith(name)).toBe(true);
    const others = (await redis.keys('*')).filter((key) => !/^\{test-[0-9a-f-]{36}\}:/.test(key));
    expect(others).toEqual([]);
  });
});
