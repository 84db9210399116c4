import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '#libs/model/ids';
import type { Order, PendingOrder, PresentedDns, PresentedHttp } from '#libs/model/order';
import { cancelled, failed, newOrder, validated } from '#libs/model/transitions';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createStore, type Store } from '#libs/store/store';
import type { Redis as LabRedis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { acmeOrder, failure, orderRequest } from '../support/sample-orders.ts';

/** What orders say of the answers to their challenges, in a real Redis; a namespace for each test. */
let server: LabRedis;
let redis: RedisClient;
const now = Date.now();
const fresh = (): Store => createStore(redis, `test-${randomUUID()}`);

const http: PresentedHttp<'responder'> = {
  ...{ type: 'http-01', via: 'responder', name: 'a.example.com', token: 'token-1', keyAuthorization: 'token-1.key' },
  expires: now + 3_600_000,
};
const txt: PresentedDns = {
  ...{ type: 'dns-01', name: 'b.example.com', expires: now },
  ...{
    credential: 'cred_1',
    record: '_acme-challenge.b.example.com',
    zone: 'example.com',
    value: 'value-2',
    since: now,
  },
};
const cleanUp = {
  kind: 'dns' as const,
  credential: 'cred_1',
  zone: 'example.com',
  record: txt.record,
  value: 'value-2',
};

async function place(store: Store, more: Partial<PendingOrder> = {}): Promise<Order> {
  const { challenge, challenges } = { challenge: { type: 'dns-01', credential: 'cred_1' } as const, challenges: [] };
  const order = newOrder(newId('order', now), orderRequest({ challenge, challenges, deploy: { mode: 'none' } }), now);
  return (await store.orders.place({ ...order, ...more })).order;
}
async function save(store: Store, previous: Order, next: Order): Promise<Order> {
  const saved = await store.orders.save(previous, next, []);
  if (saved === null) throw new Error('not saved');
  return saved;
}
/** A stored order that has presented both, and waits. */
async function presenting(store: Store, presented: Order['presented'] = [http, txt]): Promise<PendingOrder> {
  const order = await place(store);
  return (await save(store, order, { ...order, presented, nextAttemptAt: now + 1_000 } as Order)) as PendingOrder;
}

beforeAll(async () => {
  server = await startTestRedis('always');
  redis = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis?.disconnect();
  await server?.close();
});

describe('an answer to http-01', () => {
  it('is there from the save that says so to the one that drops it, and nothing is to be cleaned up', async () => {
    const store = fresh();
    const order = await presenting(store, [http]);
    expect(await store.challengeAnswers.get('token-1')).toBe('token-1.key');
    await save(store, order, validated(order, acmeOrder, now));
    expect(await store.challengeAnswers.get('token-1')).toBeNull();
    expect(await store.cleanUps.count()).toBe(0);
  });
});

describe('a TXT record', () => {
  const wanted = (store: Store) => store.cleanUps.isWanted({ ...cleanUp, order: '', at: 0 });

  it.each<[string, (order: PendingOrder) => Order]>([
    ['is proved', (order) => validated(order, acmeOrder, now + 5)],
    ['fails', (order) => failed(order, 'validation', failure, now + 5)],
    ['is called off', (order) => cancelled(order, now + 5)],
    [
      'presents something else',
      (order) => ({ ...order, presented: [{ ...txt, record: 'other' }], updatedAt: now + 5 }),
    ],
  ])('is to be taken away with the save in which its order %s', async (_what, next) => {
    const store = fresh();
    const order = await presenting(store);
    expect(await store.cleanUps.count()).toBe(0);
    expect(await wanted(store)).toBe(true);
    await save(store, order, next(order));
    const entry = { ...cleanUp, order: order.id, at: now + 5 };
    expect(await store.cleanUps.due(now, 10)).toEqual([entry]);
    expect(await wanted(store)).toBe(false);
    expect(await store.cleanUps.countOf('cred_1')).toBe(1);
    expect(await store.cleanUps.countOf('cred_2')).toBe(0);
    await store.cleanUps.done(entry);
    expect(await store.cleanUps.count()).toBe(0);
  });

  it('stays as it is with a save that says nothing about it', async () => {
    const store = fresh();
    const order = await presenting(store);
    await save(store, order, { ...order, presented: [{ ...txt }, http], updatedAt: now + 5 });
    expect(await store.cleanUps.count()).toBe(0);
    expect(await wanted(store)).toBe(true);
    expect(await store.challengeAnswers.get('token-1')).toBe('token-1.key');
  });

  it('is not to be taken away when somebody else was faster', async () => {
    const store = fresh();
    const order = await presenting(store);
    await save(store, order, { ...order, updatedAt: now + 1 });
    expect(await store.orders.save(order, cancelled(order, now + 2), [])).toBeNull();
    expect(await store.cleanUps.count()).toBe(0);
  });

  it('is wanted as long as one of two orders wants it', async () => {
    const store = fresh();
    const [one, two] = [await presenting(store), await presenting(store)];
    await save(store, one, cancelled(one, now));
    expect(await wanted(store)).toBe(true);
    await save(store, two, cancelled(two, now));
    expect(await wanted(store)).toBe(false);
  });

  it('of an order that a worker had in hand when it was called off is looked at once more', async () => {
    const store = fresh();
    const waiting = await presenting(store);
    const order = (await save(store, waiting, { ...waiting, nextAttemptAt: null, startedAt: now })) as PendingOrder;
    await save(store, order, cancelled(order, now));
    expect(await store.cleanUps.due(now, 10)).toHaveLength(1);
    expect(await store.cleanUps.due(now + 3_600_000, 10)).toHaveLength(2);
  });

  it('that came late is to be taken away, unless it is wanted', async () => {
    const store = fresh();
    const order = await presenting(store);
    const late = { ...cleanUp, order: order.id, at: now };
    await store.cleanUps.addUnlessWanted(late);
    expect(await store.cleanUps.count()).toBe(0);
    await save(store, order, validated(order, acmeOrder, now + 1));
    await store.cleanUps.addUnlessWanted(late);
    expect(await store.cleanUps.count()).toBe(2);
  });

  it('is put off to its time, unless it is done meanwhile', async () => {
    const store = fresh();
    const order = await presenting(store);
    await save(store, order, cancelled(order, now));
    const [entry] = await store.cleanUps.due(now, 10);
    if (!entry) throw new Error('nothing is due');
    await store.cleanUps.putOff(entry, now + 100);
    expect(await store.cleanUps.due(now + 99, 10)).toEqual([]);
    expect(await store.cleanUps.due(now + 100, 10)).toEqual([entry]);
    await store.cleanUps.done(entry);
    await store.cleanUps.putOff(entry, now);
    expect(await store.cleanUps.count()).toBe(0);
  });
});

describe('what another version has written', () => {
  it('of TXT records, before there was anything else, is taken away as what this one writes', async () => {
    const store = fresh();
    const { kind: _kind, ...old } = { ...cleanUp, order: 'ord_1', at: now };
    const { order, credential, zone, record, value, at } = old;
    const text = JSON.stringify({ order, credential, zone, record, value, at });
    await redis.zadd(store.keys.cleanUps, '0', text);
    const [entry] = await store.cleanUps.due(now, 10);
    if (!entry) throw new Error('nothing is due');
    expect(entry).toEqual({ ...cleanUp, order: 'ord_1', at: now });
    expect(await store.cleanUps.countOf('cred_1')).toBe(1);
    await store.cleanUps.putOff(entry, now + 100);
    expect(await store.cleanUps.due(now + 99, 10)).toEqual([]);
    expect(await store.cleanUps.due(now + 100, 10)).toEqual([entry]);
    await store.cleanUps.done(entry);
    expect(await store.cleanUps.count()).toBe(0);
  });

  it('and cannot be read holds up nothing, and is kept', async () => {
    const store = fresh();
    const late = { ...cleanUp, order: 'ord_1', at: now };
    for (const token of ['1', '2']) await redis.zadd(store.keys.cleanUps, '0', JSON.stringify({ kind: 'new', token }));
    await store.cleanUps.addBefore(late, now);
    expect(await store.cleanUps.due(now, 2)).toEqual([]);
    expect(await store.cleanUps.due(now, 2)).toEqual([late]);
    expect(await store.cleanUps.count()).toBe(3);
  });
});

it('an order is known by its credential until it has ended', async () => {
  const store = fresh();
  const order = await presenting(store);
  expect(await store.orders.unfinishedWith('cred_1')).toEqual([order.id]);
  await save(store, order, cancelled(order, now));
  expect(await store.orders.unfinishedWith('cred_1')).toEqual([]);
});
