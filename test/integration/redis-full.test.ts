import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiSession, dumpRedis, openApiSession } from '../support/api-session.ts';
import { eventually } from '../support/lab-session.ts';
import { type WholeOrders, wholeOrders } from '../support/whole-orders.ts';

/** What becomes of orders and requests when Redis has no memory left, and when it has some again. */
describe('a Redis without room', () => {
  let session: ApiSession;
  let orders: WholeOrders;

  beforeAll(async () => {
    session = await openApiSession({ workers: true });
    orders = await wholeOrders(session);
  });
  afterAll(async () => {
    await orders?.close();
    await session?.close();
  });

  const full = async (is: boolean): Promise<void> => {
    await session.redis.config('SET', 'maxmemory', is ? '1' : '0');
  };
  const refusals = async (): Promise<number> =>
    Number(/errorstat_OOM:count=(\d+)/.exec(await session.redis.info('errorstats'))?.[1] ?? 0);

  it('answers writes with 503 and what to do, and goes on to answer reads', async () => {
    const id = await orders.place('before.example.com');
    await orders.deployed(id);
    await full(true);
    const before = await dumpRedis(session.redis);
    const body = { names: ['full.example.com'], key: { type: 'ec-p256' }, challenge: { type: 'http-01' } };
    const order = await session.api.send('GET', `/v1/orders/${id}`);
    const request = { ...body, account: order.account };
    const key = { 'idempotency-key': 'full' };
    const refused = await session.api.request('POST', '/v1/orders', request, key);
    expect(refused).toMatchObject({
      status: 503,
      body: { code: 'store_full', advice: expect.stringMatching(/maxmemory/) },
    });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await session.api.request('GET', `/v1/orders/${id}`)).toMatchObject({ status: 200, body: { id } });
    expect(await session.api.request('GET', '/v1/orders')).toMatchObject({ status: 200 });
    const ready = await fetch(`${session.url}/readyz`);
    expect([ready.status, await ready.json()]).toMatchObject([503, { code: 'store_full' }]);
    expect(await dumpRedis(session.redis)).toEqual(before);

    await full(false);
    expect((await fetch(`${session.url}/readyz`)).status).toBe(200);
    const taken = await session.api.request('POST', '/v1/orders', request, key);
    expect(taken.status).toBe(202);
    await session.until(String(taken.body.id), 'it is issued', ({ complete }) => complete === true);
  });

  it('lets workers wait with what they have in hand, and go on by themselves', async () => {
    await session.lab.pebble.signal('SIGSTOP');
    const ids = [await orders.place('one.example.com'), await orders.place('two.example.com')];
    for (const id of ids) await session.event(id, ({ type }) => type === 'stage_started');
    const before = session.lab.pebble.issued().length;
    await full(true);
    await session.lab.pebble.signal('SIGCONT');
    // Both have an ACME order now, and no place to note it.
    const refused = await refusals();
    await eventually('workers are refused again and again', 15_000, async () => (await refusals()) > refused + 10);
    await full(false);
    for (const id of ids) expect(await orders.deployed(id)).toEqual({ validation: 0, issuance: 0, deployment: 0 });
    expect(session.lab.pebble.issued()).toHaveLength(before + ids.length);
  });

  it('does all of a commit, or nothing', async () => {
    const { redis } = session;
    const tag = '{certline}:full';
    const commit = (...commands: string[][]) => redis.commit(`${tag}:record`, '', 'write', JSON.stringify(commands));
    await redis.set(`${tag}:old`, '1');
    await full(true);
    const unfinished = commit(['SET', `${tag}:new`, '1'], ['DEL', `${tag}:old`]);
    const refused = await refusals();
    await eventually('it is refused', 5_000, async () => (await refusals()) > refused);
    expect(await redis.mget(`${tag}:new`, `${tag}:old`)).toEqual([null, '1']);
    // Redis lets a script that has begun to write come to its end.
    await commit(['DEL', `${tag}:old`], ['SET', `${tag}:late`, '1']);
    expect(await redis.mget(`${tag}:late`, `${tag}:old`)).toEqual(['1', null]);
    await full(false);
    expect(await unfinished).toBe(1);
    expect(await redis.get(`${tag}:new`)).toBe('1');
  });
});
