import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { Order, PendingOrder, ValidatedOrder } from '#libs/model/order';
import { cancelled, validated } from '#libs/model/transitions';
import type { StageContext } from '#libs/queues/handler';
import type { Redis } from '../../services/lab/redis.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

type Context = StageContext<PendingOrder>;

let server: Redis;
let pipeline: Pipeline;

/** A run of the handler that has begun and goes on when the test says how. */
interface HeldRun {
  order: PendingOrder;
  context: Context;
  goOn(as: (order: PendingOrder, context: Context) => Promise<ValidatedOrder>): void;
}
let held: HeldRun[];

/** Starts the stage with a handler that holds every run; a run ends when the process stops, too. */
function startHolding() {
  return pipeline.startStage('validation', async (order, context) => {
    const { promise, resolve, reject } = Promise.withResolvers<Parameters<HeldRun['goOn']>[0]>();
    context.signal.addEventListener('abort', () => reject(context.signal.reason), { once: true });
    held.push({ order, context, goOn: resolve });
    return (await promise)(order, context);
  });
}
const begun = (count: number): Promise<boolean> => vi.waitUntil(() => held.length === count, { timeout: 15_000 });
const succeed = async (_: PendingOrder, { current }: Context) => validated(current(), acmeOrder, Date.now());
const typesOf = async (id: string) => (await pipeline.store.history(id)).map(({ type }) => type);
const isValidated = ({ status }: Order) => status === 'validated';

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
  held = [];
});
afterEach(() => pipeline.close());

describe('a run whose order somebody else has changed meanwhile', () => {
  it.each<[string, Parameters<HeldRun['goOn']>[0]]>([
    ['succeeds', succeed],
    [
      'fails',
      async () => {
        throw new CertlineError('ca_unavailable', 'busy');
      },
    ],
    [
      'asks for a restart',
      async () => {
        throw new CertlineError('acme_order_gone', 'gone');
      },
    ],
    [
      'saves a checkpoint',
      async (order, context) => {
        await context.checkpoint({ acmeOrder }, 'never seen');
        return validated(order, acmeOrder, Date.now());
      },
    ],
  ])('leaves no trace when it %s', async (_, goOn) => {
    const { id } = await pipeline.enqueue();
    startHolding();
    await begun(1);
    const running = await pipeline.read(id);
    await pipeline.store.orders.save(running, cancelled(running, Date.now()), [
      { type: 'order_cancelled', at: Date.now() },
    ]);
    const after = await pipeline.read(id);
    held[0]?.goOn(goOn);
    expect((await pipeline.jobIn(id, 'validation', 1, 'completed')).returnvalue).toBe('stale');
    expect(await pipeline.read(id)).toEqual(after);
    expect(await typesOf(id)).toEqual(['order_placed', 'stage_started', 'order_cancelled']);
    expect(await pipeline.queue('issuance').getJobCounts()).toMatchObject({ waiting: 0, delayed: 0 });
    expect(await pipeline.queue('validation').getJobCounts()).toMatchObject({ waiting: 0, delayed: 0, completed: 1 });
    expect(Object.keys(await pipeline.counted('validation'))).toEqual([expect.stringMatching(/^stale /)]);
  });

  it('does nothing when it was cancelled before it began', async () => {
    const order = await pipeline.enqueue();
    await pipeline.store.orders.save(order, cancelled(order, Date.now()), []);
    startHolding();
    expect((await pipeline.jobIn(order.id, 'validation', 1, 'completed')).returnvalue).toBe('stale');
    expect(held).toHaveLength(0);
    expect(await pipeline.read(order.id)).toMatchObject({ status: 'cancelled', version: 2 });
  });

  it('does nothing when its epoch is over', async () => {
    const order = await pipeline.enqueue();
    await pipeline.store.orders.save(order, { ...order, epoch: 2 }, []);
    startHolding();
    expect((await pipeline.jobIn(order.id, 'validation', 1, 'completed')).returnvalue).toBe('stale');
    expect(held).toHaveLength(0);
  });
});

describe('a job that is run twice', () => {
  it('does its work once when the first run has ended', async () => {
    const order = await pipeline.enqueue();
    startHolding();
    await begun(1);
    held[0]?.goOn(succeed);
    const done = await pipeline.until(order.id, isValidated);
    await (await pipeline.jobIn(order.id, 'validation', 1, 'completed')).remove();
    await pipeline.producer.enqueue(order);
    expect((await pipeline.jobIn(order.id, 'validation', 1, 'completed')).returnvalue).toBe('stale');
    expect(held).toHaveLength(1);
    expect(await pipeline.read(order.id)).toEqual(done);
  });

  it('does its work once when the first run, thought to be dead, goes on', async () => {
    const { id } = await pipeline.enqueue();
    startHolding();
    await begun(1);
    // What is left of a worker that was silent for too long: others find the job without its lock.
    await pipeline.redis.del(`${pipeline.settings.prefix}:validation:${id}.validation.1:lock`);
    await begun(2);
    held[0]?.goOn(async (_, context) => {
      await context.checkpoint({ acmeOrder: { ...acmeOrder, url: 'https://ca.test/order/zombie' } });
      throw new Error('the checkpoint must not be saved');
    });
    await vi.waitUntil(async () => 'stale none' in (await pipeline.counted('validation')));
    held[1]?.goOn(succeed);
    expect(await pipeline.until(id, isValidated)).toMatchObject({ acmeOrder, error: null });
    expect(await pipeline.counted('validation')).toEqual({ 'stale none': 1, 'completed none': 1 });
    expect(await typesOf(id)).toEqual(['order_placed', 'stage_started', 'stage_started', 'stage_completed']);
    await pipeline.jobIn(id, 'issuance', 1, 'waiting');
    expect(held).toHaveLength(2);
  });

  it('is one job however often it is enqueued', async () => {
    const order = await pipeline.enqueue();
    await Promise.all([pipeline.producer.enqueue(order), pipeline.producer.enqueue(order)]);
    expect(await pipeline.queue('validation').getJobCounts()).toMatchObject({ waiting: 1 });
  });
});

describe('a worker that is stopped', () => {
  it('lets a run finish within the grace, and takes no more jobs', async () => {
    const { id } = await pipeline.enqueue();
    const worker = startHolding();
    await begun(1);
    const stopped = worker.stop(30_000);
    const later = await pipeline.enqueue();
    held[0]?.goOn(succeed);
    await stopped;
    expect(await pipeline.read(id)).toMatchObject({ status: 'validated' });
    await pipeline.jobIn(later.id, 'validation', 1, 'waiting');
    expect(held).toHaveLength(1);
  });

  it('hands a run back after the grace, and another worker takes it up', async () => {
    const { id } = await pipeline.enqueue();
    const worker = startHolding();
    await begun(1);
    const saved = await held[0]?.context.checkpoint({ acmeOrder });
    await worker.stop(50);
    await pipeline.jobIn(id, 'validation', 1, 'waiting');
    expect(await pipeline.read(id)).toEqual(saved);
    startHolding();
    await begun(2);
    expect(held[1]?.order).toMatchObject({ acmeOrder, attempts: { validation: 0 }, error: null });
    held[1]?.goOn(succeed);
    expect(await pipeline.until(id, isValidated)).toMatchObject({ attempts: { validation: 0 } });
    expect(await pipeline.counted('validation')).toEqual({ 'completed none': 1 });
  });

  it('saves the success of a run that ends while it is hurried', async () => {
    const { id } = await pipeline.enqueue();
    const worker = startHolding();
    await begun(1);
    const { promise, resolve } = Promise.withResolvers<void>();
    held[0]?.goOn(async (order, context) => {
      context.signal.addEventListener('abort', () => resolve(), { once: true });
      await promise;
      return succeed(order, context);
    });
    await worker.stop(50);
    expect(await pipeline.read(id)).toMatchObject({ status: 'validated' });
    await pipeline.jobIn(id, 'validation', 1, 'completed');
  });
});

describe('what is measured', () => {
  it('is every attempt with its duration, and how long it had been due', async () => {
    const { id } = await pipeline.enqueue({}, (order) => ({ ...order, stageSince: Date.now() - 7_000 }));
    startHolding();
    await begun(1);
    held[0]?.goOn(succeed);
    await pipeline.until(id, isValidated);
    const text = await pipeline.metrics.registry.metrics();
    expect(text).toMatch(/certline_stage_duration_seconds_count\{[^}]*stage="validation",outcome="completed"[^}]*\} 1/);
    expect(text).toMatch(/certline_stage_wait_seconds_bucket\{le="5",[^}]*stage="validation"[^}]*\} 0/);
    expect(text).toMatch(/certline_stage_wait_seconds_bucket\{le="30",[^}]*stage="validation"[^}]*\} 1/);
    expect(text).not.toMatch(/ord_|example\.com/);
  });
});
