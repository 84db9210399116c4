import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CertlineError } from '#libs/errors';
import { newId } from '#libs/model/ids';
import type { IssuedOrder, Order } from '#libs/model/order';
import { nextOfRollout } from '#libs/model/rollout';
import { deployed, resumed } from '#libs/model/transitions';
import type { TargetOutcome } from '#libs/queues/handler';
import type { Redis } from '../../services/lab/redis.ts';
import { type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { openRollouts, type Rollouts } from '../support/rollouts.ts';

/** What becomes of a rollout whose workers die, or look at it at the same time; with parts that the tests end by themselves. */
const patience = { timeout: 15_000, interval: 20 };
let server: Redis;
let rollouts: Rollouts;
let pipeline: Pipeline;

const day = 86_400_000;
const until = (id: string, ...deployments: string[]) =>
  vi.waitFor(async () => expect(await rollouts.deployments(id)).toEqual(deployments), patience);
const succeed = (order: IssuedOrder): TargetOutcome => ({ id: order.id, deployed: deployed(order, Date.now()) });
const look = (order: string) => pipeline.queue('rollout').add('rollout', { order });
/** The parts, once they are placed. */
const placed = (id: string, count: number) =>
  vi.waitFor(async () => {
    const parts = await rollouts.parts(id);
    expect(parts).toHaveLength(count);
    return parts as IssuedOrder[];
  }, patience);
/** Ends a part behind the back of everybody. */
async function end(part: IssuedOrder): Promise<Order> {
  const saved = await pipeline.store.orders.save<Order>(part, deployed(part, Date.now()), []);
  if (saved === null) throw new Error(`${part.id} was changed meanwhile`);
  return saved;
}
/** The rollout as a worker leaves it that dies right after it has saved that a wave begins. */
async function savedOnly(...waves: string[][]): Promise<{ id: string; ids: (string | null)[] }> {
  const whole = (await rollouts.place('crt_1', ...waves)) as IssuedOrder;
  const { order } = nextOfRollout(whole, new Map(), Date.now(), () => newId('order', Date.now()));
  await pipeline.store.orders.save<Order>(whole, order, []);
  return { id: whole.id, ids: order.deployments.map((one) => one.order) };
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  rollouts = openRollouts(server);
  pipeline = rollouts.pipeline;
});
afterEach(() => rollouts.close());

describe('a rollout whose worker died', () => {
  it('after it had saved that a wave begins, gets the orders of that wave, with the ids that were saved', async () => {
    const { id, ids } = await savedOnly(['tgt_a', 'tgt_b'], ['tgt_c']);
    expect(await rollouts.parts(id)).toEqual([]);
    rollouts.startRollouts();
    await rollouts.reconcile();
    const parts = await placed(id, 2);
    expect(parts.map((part) => part.id)).toEqual(ids.slice(0, 2));
    expect(await rollouts.deployments(id)).toEqual(['tgt_a under way', 'tgt_b under way', 'tgt_c waiting']);
  });

  it('when it had placed some of them, gets the others, and no second order for a target', async () => {
    const { id, ids } = await savedOnly(['tgt_a', 'tgt_b']);
    rollouts.startRollouts();
    await rollouts.reconcile();
    const [first] = await placed(id, 2);
    await pipeline.redis.del(pipeline.store.keys.order(ids[1] ?? ''));
    await pipeline.store.orders.save(first as Order, { ...(first as Order), updatedAt: 1 }, []);
    await look(id);
    const parts = await placed(id, 2);
    expect(parts.map((part) => [part.id, part.version])).toEqual([
      [ids[0], 2],
      [ids[1], 1],
    ]);
  });

  it('before it was told of the end of a part, is taken on by the next round of the reconciler', async () => {
    rollouts.startRollouts();
    const { id } = await rollouts.enqueue('crt_1', ['tgt_a'], ['tgt_b']);
    const [part] = await placed(id, 1);
    await end(part as IssuedOrder);
    expect(await rollouts.deployments(id)).toEqual(['tgt_a under way', 'tgt_b waiting']);
    await rollouts.reconcile();
    await until(id, 'tgt_a deployed', 'tgt_b under way');
  });
});

describe('a rollout that many workers look at at the same time', () => {
  it('has one order for each target', async () => {
    const targets = Array.from({ length: 20 }, (_, at) => `tgt_${at}`);
    const { id } = await rollouts.place('crt_1', targets.slice(0, 10), targets.slice(10));
    await Promise.all(Array.from({ length: 20 }, () => look(id)));
    rollouts.startRollouts();
    rollouts.startRollouts();
    const parts = await placed(id, 10);
    await vi.waitUntil(async () => (await pipeline.queue('rollout').getCompletedCount()) === 20, patience);
    for (const part of parts) await end(part);
    await Promise.all(Array.from({ length: 20 }, () => look(id)));
    await placed(id, 20);
    await vi.waitUntil(async () => (await pipeline.queue('rollout').getCompletedCount()) === 40, patience);
    const counts = await Promise.all(
      targets.map(async (one) => (await pipeline.store.orders.unfinishedAt(one)).length),
    );
    // The rollout, and its one order for the target while that has not ended.
    expect(counts).toEqual([...Array(10).fill(1), ...Array(10).fill(2)]);
    for (const { id: part } of await rollouts.parts(id))
      expect((await rollouts.history(part)).filter((line) => line === 'order_placed')).toHaveLength(1);
    const began = (await rollouts.history(id)).filter((line) => line.includes('begins'));
    expect(began).toEqual([
      'stage_progress: wave 1 of 2 begins: 10 targets',
      'stage_progress: wave 2 of 2 begins: 10 targets',
    ]);
  });

  it('comes to its end though five hundred of its targets are deployed in one moment', async () => {
    const targets = Array.from({ length: 500 }, (_, at) => `tgt_${at}`);
    rollouts.startRollouts();
    rollouts.startRollouts();
    const { id } = await rollouts.enqueue('crt_1', targets, ['tgt_last']);
    const parts = await placed(id, 500);
    await Promise.all(parts.map(async (part) => pipeline.producer.enqueue(await end(part))));
    const last = (await placed(id, 501)).at(-1) as IssuedOrder;
    await pipeline.producer.enqueue(await end(last));
    const order = await pipeline.until(id, ({ status }) => status === 'deployed');
    expect(order.deployments.every(({ status }) => status === 'deployed')).toBe(true);
    expect((await rollouts.history(id)).at(-1)).toBe('order_completed');
  });
});

describe('a rollout with a part', () => {
  it('that cannot be read loses nothing: it goes on when the record can be read again', async () => {
    const { id, ids } = await savedOnly(['tgt_a'], ['tgt_b']);
    rollouts.startRollouts();
    await look(id);
    const [part] = await placed(id, 1);
    await end(part as IssuedOrder);
    const key = pipeline.store.keys.order(ids[0] ?? '');
    const document = await pipeline.redis.hget(key, 'document');
    await pipeline.redis.hset(key, 'document', '{"of":"another version"}');
    await look(id);
    await vi.waitUntil(async () => (await pipeline.queue('rollout').getFailedCount()) === 1, patience);
    await pipeline.redis.hset(key, 'document', document ?? '');
    await rollouts.reconcile();
    await until(id, 'tgt_a deployed', 'tgt_b under way');
  });

  it('that was not deployed in its own time fails, and says so', async () => {
    const { id } = await savedOnly(['tgt_a'], ['tgt_b']);
    const worker = rollouts.startRollouts();
    await look(id);
    const [part] = (await placed(id, 1)) as [IssuedOrder];
    await worker.stop(0);
    const longAgo = { ...part, stageSince: Date.now() - 15 * day };
    await pipeline.store.orders.save(part, longAgo, []);
    pipeline.startTargets(async (_target, orders) => orders.map(succeed));
    await pipeline.until(part.id, ({ status }) => status === 'failed');
    rollouts.startRollouts();
    expect(await pipeline.until(id, ({ status }) => status === 'failed')).toMatchObject({
      error: { code: 'deadline_passed', evidence: { wave: 1, orders: [part.id] } },
    });
  });

  it('that is held for its account waits with it, and goes on with it', async () => {
    let mended = false;
    const park = ({ id }: IssuedOrder): TargetOutcome => ({
      id,
      error: new CertlineError('account_unauthorized', 'as the test says', { plan: { kind: 'park' } }),
    });
    pipeline.startTargets(async (_target, orders) => orders.map(mended ? succeed : park));
    rollouts.startRollouts();
    const { id } = await rollouts.enqueue('crt_1', ['tgt_a'], ['tgt_b']);
    const [part] = (await placed(id, 1)) as [IssuedOrder];
    const held = await pipeline.until(part.id, ({ parkedOn }) => parkedOn !== null);
    await rollouts.reconcile();
    expect(await rollouts.deployments(id)).toEqual(['tgt_a under way', 'tgt_b waiting']);
    mended = true;
    const again = await pipeline.store.orders.save(held, resumed(held, Date.now()), []);
    await pipeline.producer.enqueue(again as Order);
    expect(await pipeline.until(id, ({ status }) => status !== 'issued')).toMatchObject({ status: 'deployed' });
  });
});

describe('the orders that a rollout is made of', () => {
  it('are in no list and no count, and it is among the unfinished of every target from its beginning to its end', async () => {
    const { orders } = pipeline.store;
    rollouts.startRollouts();
    const { id } = await rollouts.enqueue('crt_1', ['tgt_a'], ['tgt_b']);
    const [part] = (await placed(id, 1)) as [IssuedOrder];
    const listed = async () => {
      const filters = [{}, { name: 'www.example.com' }, { status: 'issued' }, { status: 'deployed' }] as const;
      const pages = await Promise.all(filters.map((filter) => orders.list({ ...filter, limit: 50 })));
      return pages.map((page) => page.orders.map((one) => one.id));
    };
    expect(await listed()).toEqual([[id], [id], [id], []]);
    expect([await orders.count('issued'), await orders.count('deployed')]).toEqual([1, 0]);
    expect((await orders.unfinishedAt('tgt_a')).toSorted()).toEqual([id, part.id].toSorted());
    expect(await orders.unfinishedAt('tgt_b')).toEqual([id]);

    await pipeline.producer.enqueue(await end(part));
    const [, second] = (await placed(id, 2)) as [IssuedOrder, IssuedOrder];
    expect(await listed()).toEqual([[id], [id], [id], []]);
    expect(await orders.count('deployed')).toBe(0);
    expect(await orders.unfinishedAt('tgt_a')).toEqual([id]);
    await pipeline.producer.enqueue(await end(second));
    await pipeline.until(id, ({ status }) => status === 'deployed');
    expect(await listed()).toEqual([[id], [id], [], [id]]);
    expect([await orders.count('issued'), await orders.count('deployed')]).toEqual([0, 1]);
    expect([await orders.unfinishedAt('tgt_a'), await orders.unfinishedAt('tgt_b')]).toEqual([[], []]);
  });
});
