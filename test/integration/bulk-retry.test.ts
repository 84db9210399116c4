import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { failed } from '#libs/model/transitions';
import type { OrderStore } from '#libs/store/orders';
import type { Redis } from '../../services/lab/redis.ts';
import { createBulkRetryRounds } from '../../services/scheduler/bulk-retries.ts';
import { fieldsOf } from '../support/api-session.ts';
import { type BareApi, placeAllFailed, placeFailed, startBareApi } from '../support/failed-orders.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { failure } from '../support/sample-orders.ts';

type Json = Record<string, unknown>;

/** Failed orders that are retried all at once, with the scheduler's rounds by hand. */
let server: Redis;
let api: BareApi;
const most = 6;

/** A scheduler with a clock of its own; by itself it takes up whatever waits in one round. */
function startRounds(
  perMinute = 600_000,
  changes: Partial<OrderStore> = {},
): { round: () => Promise<number>; clock: FakeClock } {
  const { store, producer, log } = api.resources;
  const clock = fakeClock(Date.now() + 60_000);
  const { bulkRetries } = store;
  const orders = { ...store.orders, ...changes };
  const deps = { bulkRetries, orders, producer, clock, log, perMinute, random: () => 0.5 };
  return { clock, round: createBulkRetryRounds(deps) };
}
const ask = (body: Json, headers: Record<string, string> = {}) =>
  api.client.request('POST', '/v1/orders/retry', body, headers);
const read = (id: unknown): Promise<Json> => api.client.send('GET', `/v1/orders/retry/${id}`);
const statusOf = async (id: string | undefined) => (await api.resources.store.orders.get(id ?? ''))?.status;
let placed = Date.UTC(2026, 0, 1);
/** Failed orders of an account of their own, one placed after the other; answers them as lists have them, the newest first. */
const place = (account: string, count: number) =>
  placeAllFailed(
    api.resources.store,
    Array.from({ length: count }, () => {
      placed += 1;
      return { at: placed, request: { account } };
    }),
  );

beforeAll(async () => {
  server = await startTestRedis();
  api = await startBareApi(server.url, { BULK_RETRY_LIMIT: String(most) });
});
afterAll(async () => {
  await api?.close();
  await server?.close();
});

describe('a bulk retry', () => {
  it('takes up the orders that match, and tells how far it is', async () => {
    const ids = await place('acc_all', 3);
    const [other] = await place('acc_other', 1);
    const answer = await ask({ filter: { status: 'failed', account: 'acc_all' } });
    const { id } = answer.body;
    expect(answer).toMatchObject({
      status: 202,
      body: {
        ...{ id: expect.stringMatching(/^blk_/), status: 'running', filter: { status: 'failed', account: 'acc_all' } },
        ...{ from: null, matched: 3, more: false, retried: 0, left: 3, skipped: [], failed: [] },
      },
    });
    expect(answer.headers.get('location')).toBe(`/v1/orders/retry/${id}`);
    expect(await startRounds().round()).toBe(3);
    expect(await read(id)).toMatchObject({ status: 'completed', retried: 3, left: 0 });
    expect(await Promise.all([...ids, other].map(statusOf))).toEqual(['pending', 'pending', 'pending', 'failed']);
    const [retried] = (await api.resources.store.history(ids[0] ?? '')).slice(-1);
    expect(retried).toMatchObject({ type: 'order_retried', detail: `by the bulk retry ${id}` });
    for (const order of ids)
      expect(await api.resources.redis.exists(`{certline}:validation:${order}.validation.2`)).toBe(1);
  });

  it('is completed at once when nothing matches', async () => {
    const { body } = await ask({ filter: { code: 'pfx_unreadable' } });
    await startRounds().round();
    expect(await read(body.id)).toMatchObject({ status: 'completed', matched: 0, retried: 0 });
  });

  it('skips those that cannot be retried so, or were taken up otherwise, with the reason', async () => {
    const { store } = api.resources;
    const account = 'acc_skip';
    const issued = await placeFailed(store, {
      issued: true,
      request: { account, deploy: { mode: 'store', target: 'tgt_1' } },
    });
    const [begun, byHand, gone] = await place(account, 3);
    const { body } = await ask({ filter: { status: 'failed', account }, from: 'deployment' });
    await api.client.send('POST', `/v1/orders/${byHand}/retry`);
    await api.resources.redis.del(store.keys.order(gone ?? ''));
    expect(await startRounds().round()).toBe(1);
    const conflict = (order: string | undefined, detail: string) => ({ order, code: 'order_state_conflict', detail });
    const { skipped, ...rest } = await read(body.id);
    expect(rest).toMatchObject({
      status: 'completed',
      from: 'deployment',
      matched: 4,
      retried: 1,
      left: 0,
      failed: [],
    });
    expect(new Set(skipped as Json[])).toEqual(
      new Set([
        conflict(begun, 'it can be retried from validation, not from deployment'),
        conflict(byHand, 'the order is pending; only a failed one can be retried'),
        { order: gone, code: 'not_found', detail: `there is no order ${gone}` },
      ]),
    );
    expect(await statusOf(issued?.id)).toBe('issued');
  });

  it('goes past an order whose record cannot be read', async () => {
    const { redis, store } = api.resources;
    const [bad, good] = await place('acc_bad', 2);
    const { body } = await ask({ filter: { status: 'failed', account: 'acc_bad' } });
    await redis.hset(store.keys.order(bad ?? ''), 'document', '{}');
    await startRounds().round();
    expect(await read(body.id)).toMatchObject({
      ...{ status: 'completed', retried: 1, skipped: [] },
      failed: [{ order: bad, code: 'unexpected', detail: expect.any(String) }],
    });
    expect(await statusOf(good)).toBe('pending');
    // What cannot be read would be in the way of the tests that follow.
    await redis.zrem(store.keys.ordersByStatus('failed'), bad ?? '');
  });

  it('takes no more orders than its limit, the newest, and says that there are more', async () => {
    const ids = await place('acc_many', most + 1);
    const filter = { status: 'failed', account: 'acc_many' };
    const { body } = await ask({ filter });
    expect(body).toMatchObject({ matched: most, more: true });
    const second = await ask({ filter, limit: 2 });
    expect(second.body).toMatchObject({ matched: 2, more: true });
    await startRounds().round();
    expect(await read(body.id)).toMatchObject({ retried: most });
    // The two had their turn in the first one.
    expect(await read(second.body.id)).toMatchObject({ retried: 0, skipped: [{ order: ids[0] }, { order: ids[1] }] });
    expect(await statusOf(ids.at(-1))).toBe('failed');
    expect(fieldsOf(await ask({ filter, limit: most + 1 }))).toEqual(['limit request_invalid']);
  });

  it('is for the orders that had failed when it was asked for, each of them once', async () => {
    const { store } = api.resources;
    const [id] = await place('acc_again', 1);
    const { body } = await ask({ filter: { status: 'failed', account: 'acc_again' } });
    const late = await place('acc_again', 1);
    const { round } = startRounds();
    await round();
    const retried = await store.orders.get(id ?? '');
    const failedAgain = await placeFailed(store, { request: { account: 'acc_again' } });
    if (retried && failedAgain) await store.orders.save(retried, { ...failedAgain, id: retried.id }, []);
    await round();
    expect(await read(body.id)).toMatchObject({ status: 'completed', retried: 1 });
    expect(await statusOf(id)).toBe('failed');
    expect(await statusOf(late[0])).toBe('failed');
  });

  it('has one turn for each order also when two schedulers are at it, and the order fails again in between', async () => {
    const { store } = api.resources;
    const [id = ''] = await place('acc_two', 1);
    const { body } = await ask({ filter: { status: 'failed', account: 'acc_two' } });
    const other = startRounds();
    const { round } = startRounds(600_000, {
      async get(order) {
        await other.round();
        const retried = await store.orders.get(order);
        if (retried?.status === 'pending')
          await store.orders.save(retried, failed(retried, 'validation', failure, Date.now()), []);
        return store.orders.get(order);
      },
    });
    expect(await round()).toBe(0);
    expect(await statusOf(id)).toBe('failed');
    expect(await read(body.id)).toMatchObject({ status: 'completed', retried: 1, skipped: [] });
  });

  it('tells beforehand what it would do, and does nothing, with `dryRun`', async () => {
    const { store } = api.resources;
    const account = 'acc_dry';
    const issued = await placeFailed(store, {
      issued: true,
      code: 'superseded',
      request: { account, deploy: { mode: 'store', target: 'tgt_1' } },
    });
    const [begun] = await place(account, 1);
    const body = { filter: { status: 'failed', account }, dryRun: true };
    const error = { code: 'superseded', detail: 'as the test says' };
    const plain = await ask(body);
    expect(plain).toMatchObject({ status: 200, body: { matched: 2, more: false } });
    expect(new Map((plain.body.orders as Json[]).map(({ order, ...rest }) => [order, rest]))).toEqual(
      new Map([
        [
          begun,
          {
            names: expect.any(Array),
            error: { ...error, code: 'http01_unreachable' },
            from: 'validation',
            skipped: null,
          },
        ],
        [issued?.id, { names: expect.any(Array), error, from: 'deployment', skipped: null }],
      ]),
    );
    const { orders } = (await ask({ ...body, from: 'deployment' })).body;
    const skipped = { code: 'order_state_conflict', detail: 'it can be retried from validation, not from deployment' };
    expect((orders as Json[]).find(({ order }) => order === begun)).toMatchObject({ from: null, skipped });
    await startRounds().round();
    expect(await statusOf(begun)).toBe('failed');
  });

  it('is one, however often it is asked for with the same Idempotency-Key', async () => {
    await place('acc_once', 2);
    const body = { filter: { status: 'failed', account: 'acc_once' } };
    const key = { 'idempotency-key': 'once' };
    const answers = await Promise.all([ask(body, key), ask(body, key), ask(body, key)]);
    expect(new Set(answers.map(({ body: { id } }) => id)).size).toBe(1);
    await startRounds().round();
    expect(await ask(body, key)).toMatchObject({ status: 202, body: { id: answers[0]?.body.id, retried: 2 } });
    const other = await ask({ ...body, limit: 1 }, key);
    expect(other).toMatchObject({ status: 422, body: { code: 'idempotency_key_reused' } });
  });

  it('that is called off leaves the rest as it is', async () => {
    const ids = await place('acc_off', 4);
    const { body } = await ask({ filter: { status: 'failed', account: 'acc_off' } });
    const cancel = () => api.client.request('POST', `/v1/orders/retry/${body.id}/cancel`);
    // So slow that the first round takes one.
    const { round, clock } = startRounds(1);
    await round();
    const cancelled = { status: 200, body: { status: 'cancelled', matched: 4, retried: 1, left: 3 } };
    expect(await cancel()).toMatchObject(cancelled);
    expect(await cancel()).toMatchObject(cancelled);
    clock.advance(600_000);
    expect(await round()).toBe(0);
    expect(await Promise.all(ids.map(statusOf))).toEqual(['pending', 'failed', 'failed', 'failed']);
    const done = await ask({ filter: { code: 'pfx_unreadable' } });
    await startRounds().round();
    const late = await api.client.request('POST', `/v1/orders/retry/${done.body.id}/cancel`);
    expect(late).toMatchObject({ status: 409, body: { code: 'order_state_conflict' } });
  });

  it('keeps its pace, and makes up for no more than a few seconds after a time without a scheduler', async () => {
    await place('acc_slow', most);
    await place('acc_slow', 0);
    const { body } = await ask({ filter: { status: 'failed', account: 'acc_slow' } });
    // One in 4 s.
    const { round, clock } = startRounds(15);
    expect(await round()).toBe(2);
    expect(await round()).toBe(0);
    clock.advance(3_999);
    expect(await round()).toBe(0);
    clock.advance(1);
    expect(await round()).toBe(1);
    clock.advance(3_600_000);
    expect(await round()).toBe(2);
    await api.client.send('POST', `/v1/orders/retry/${body.id}/cancel`);
  });

  it('is told in the events of everything', async () => {
    const { redis, store } = api.resources;
    const { body } = await ask({ filter: { code: 'pfx_unreadable' } });
    await startRounds().round();
    const lines = (await redis.xrange(store.keys.events, '-', '+')).map(
      ([, fields]) => JSON.parse(fields[1] ?? '{}') as Json,
    );
    const told = lines.filter(({ bulkRetry }) => bulkRetry === body.id);
    expect(told).toMatchObject([
      { type: 'bulk_retry_started', detail: '0 failed orders' },
      { type: 'bulk_retry_completed' },
    ]);
  });

  it('that nobody has asked for, or whose record has gone, is not found', async () => {
    const missing = { status: 404, body: { code: 'not_found' } };
    expect(await api.client.request('GET', '/v1/orders/retry/blk_1')).toMatchObject(missing);
    expect(await api.client.request('POST', '/v1/orders/retry/blk_1/cancel')).toMatchObject(missing);
    const { body } = await ask({ filter: { code: 'pfx_unreadable' } });
    await api.resources.redis.del(api.resources.store.keys.bulkRetry(String(body.id)));
    const { round } = startRounds();
    await round();
    expect(await api.resources.redis.zcard(api.resources.store.keys.runningBulkRetries)).toBe(0);
  });
});

describe('a filter of a bulk retry', () => {
  it.each<[Json, string[]]>([
    [{}, ['filter request_invalid']],
    [{ filter: {} }, ['filter request_invalid']],
    [{ filter: { account: 'acc_1' } }, ['filter request_invalid']],
    [{ filter: { status: 'pending' } }, ['filter.status request_invalid']],
    [{ filter: { code: 'nonsense' } }, ['filter.code request_invalid']],
    [
      { filter: { status: 'failed', reason: 'x', since: 'now' } },
      ['filter.since request_invalid', 'filter.reason request_invalid'],
    ],
    [
      { filter: { status: 'failed' }, from: 'start', limit: 0, now: true },
      ['from request_invalid', 'limit request_invalid', 'now request_invalid'],
    ],
  ])('%j is refused by the name of the field', async (body, fields) => {
    const answer = await ask(body);
    expect(answer.status).toBe(422);
    expect(fieldsOf(answer)).toEqual(fields);
  });
});
