import { UnrecoverableError, Worker } from 'bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createMetrics } from '#libs/metrics/metrics';
import type { Order, PendingOrder } from '#libs/model/order';
import { cancelled, deployed, failed, issued, validated } from '#libs/model/transitions';
import { connectRedis } from '#libs/store/redis';
import { createStore } from '#libs/store/store';
import type { Redis } from '../../services/lab/redis.ts';
import { reconcile } from '../../services/scheduler/reconciler.ts';
import { startScheduler } from '../../services/scheduler/service.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder, failure, orderRequest } from '../support/sample-orders.ts';

let server: Redis;
let pipeline: Pipeline;

/** One look, as it would be in ten seconds. */
const look = (laterMs = 10_000): Promise<number> => {
  const { store, producer, resources } = pipeline;
  const clock = { ...resources.clock, now: () => Date.now() + laterMs };
  return reconcile({ orders: store.orders, producer, leases: store.leases, clock, log: resources.log });
};
const toIssued = (order: PendingOrder): Order => issued(validated(order, acmeOrder, Date.now()), 'crt_1', Date.now());
const jobCount = async (): Promise<number> => {
  const { waiting = 0, delayed = 0, active = 0 } = await pipeline.queue('validation').getJobCounts();
  return waiting + delayed + active;
};

/** Ends the jobs of the validation queue behind the order's back. */
async function endJobs(id: string, state: 'completed' | 'failed'): Promise<void> {
  const end = async () => {
    if (state === 'failed') throw new UnrecoverableError('the test says so');
  };
  const worker = new Worker('validation', end, { connection: pipeline.redis, prefix: pipeline.settings.prefix });
  await pipeline.jobIn(id, 'validation', 1, state);
  await worker.close();
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
});
afterEach(() => pipeline.close());

describe('the reconciler', () => {
  it('enqueues an order that has no job, once', async () => {
    const { id } = await pipeline.place();
    expect(await look()).toBe(1);
    expect((await pipeline.jobIn(id, 'validation', 1, 'waiting')).data).toEqual({ order: id });
    expect(await look()).toBe(0);
    expect(await look(60_000)).toBe(0);
    expect(await jobCount()).toBe(1);
  });

  it('looks at orders side by side: over a slow connection the last must not wait for all others', async () => {
    await Promise.all([pipeline.place(), pipeline.place()]);
    const { store, producer, resources } = pipeline;
    const both = Promise.withResolvers<void>();
    let asked = 0;
    const slow = {
      ...producer,
      async ensureJob(order: Order) {
        asked += 1;
        if (asked === 2) both.resolve();
        await both.promise;
        return producer.ensureJob(order);
      },
    };
    const clock = { ...resources.clock, now: () => Date.now() + 10_000 };
    const deps = { orders: store.orders, leases: store.leases, clock, log: resources.log };
    expect(await reconcile({ ...deps, producer: slow })).toBe(2);
  });

  it('puts an order to deploy back on the list of its target when it fell off', async () => {
    const { id } = await pipeline.place({ deploy: { mode: 'site', target: 'tgt_1', site: 1 } }, toIssued);
    await pipeline.store.orders.dropDue('tgt_1', id);
    await look();
    expect(await pipeline.store.orders.due('tgt_1', Date.now(), 10)).toEqual([id]);
  });

  it('leaves an order alone that has only just been placed', async () => {
    await pipeline.place();
    expect(await look(0)).toBe(0);
    expect(await jobCount()).toBe(0);
  });

  it.each(['failed', 'completed'] as const)('replaces a job that %s without moving the order on', async (state) => {
    const { id } = await pipeline.enqueue();
    await endJobs(id, state);
    expect(await look()).toBe(1);
    await pipeline.jobIn(id, 'validation', 1, 'waiting');
  });

  it('leaves an order alone whose job waits or is run', async () => {
    const waits = await pipeline.enqueue();
    expect(await look()).toBe(0);
    const { promise, resolve } = Promise.withResolvers<void>();
    pipeline.startStage('validation', async (order) => {
      await promise;
      return validated(order, acmeOrder, Date.now());
    });
    await pipeline.jobIn(waits.id, 'validation', 1, 'active');
    expect(await look(60_000)).toBe(0);
    resolve();
    await pipeline.until(waits.id, ({ status }) => status === 'validated');
  });

  it('leaves an order alone until its next attempt is overdue, and then gives its job that time', async () => {
    const nextAttemptAt = Date.now() + 3_600_000;
    const { id } = await pipeline.place({}, (order) => ({ ...order, nextAttemptAt }));
    expect(await look(3_590_000)).toBe(0);
    expect(await look(3_610_000)).toBe(1);
    const { opts } = await pipeline.jobIn(id, 'validation', 1, 'delayed');
    expect(opts.delay).toBeGreaterThan(3_500_000);
  });

  it.each<[string, (order: PendingOrder) => Order]>([
    ['is parked', (order) => ({ ...order, parkedOn: 'acc_1' })],
    ['has failed', (order) => failed(order, 'validation', failure, Date.now())],
    ['was cancelled', (order) => cancelled(order, Date.now())],
    [
      'is issued and to be deployed nowhere',
      (order) => toIssued({ ...order, request: orderRequest({ deploy: { mode: 'none' } }) }),
    ],
    ['is deployed', (order) => deployed({ ...toIssued(order), status: 'issued', certificate: 'crt_1' }, Date.now())],
  ])('leaves an order alone that %s', async (_, change) => {
    const order = await pipeline.enqueue();
    await pipeline.store.orders.save(order, change(order as PendingOrder), []);
    await endJobs(order.id, 'completed');
    expect(await look()).toBe(0);
    expect(await look(3_600_000)).toBe(0);
    expect(await jobCount()).toBe(0);
    const { waiting, delayed } = await pipeline.queue('deployment').getJobCounts();
    expect([waiting, delayed]).toEqual([0, 0]);
  });

  it('wakes the target of an order that is to be deployed', async () => {
    await pipeline.place({}, toIssued);
    await pipeline.place({}, toIssued);
    await look();
    const jobs = await pipeline.queue('deployment').getJobs(['waiting', 'delayed']);
    expect(jobs.map(({ data }) => data)).toEqual([{ target: 'tgt_1' }]);
  });

  it('may run twice at once: each order gets one job', async () => {
    const orders = await Promise.all(Array.from({ length: 20 }, () => pipeline.place()));
    await Promise.all([look(), look(), look()]);
    expect(await jobCount()).toBe(orders.length);
  });

  it('may run twice at once beside a worker that takes the jobs: none is run twice', async () => {
    const orders = await Promise.all(Array.from({ length: 20 }, () => pipeline.enqueue()));
    for (const { id } of orders) await endJobs(id, 'failed');
    const runs: string[] = [];
    pipeline.startStage('validation', async (order) => {
      runs.push(order.id);
      return validated(order, acmeOrder, Date.now());
    });
    await Promise.all([look(), look(), look(), look()]);
    await vi.waitUntil(() => runs.length >= orders.length, { timeout: 10_000 });
    for (const { id } of orders) await pipeline.until(id, ({ status }) => status === 'validated');
    expect(runs.toSorted()).toEqual(orders.map(({ id }) => id).toSorted());
  });

  it('is not held up by an order that it cannot read', async () => {
    const broken = await pipeline.place();
    const gone = await pipeline.place();
    const { id } = await pipeline.place();
    await pipeline.redis.hset(pipeline.store.keys.order(broken.id), 'document', '{}');
    await pipeline.redis.del(pipeline.store.keys.order(gone.id));
    expect(await look()).toBe(1);
    await pipeline.jobIn(id, 'validation', 1, 'waiting');
  });
});

describe('a scheduler', () => {
  it('is soon replaced by another one when it dies in the middle of a round', async () => {
    const pipelineConfig = { RETRY_DELAY_SCALE: 1, LOCK_DURATION_MS: 8_000, STALLED_INTERVAL_MS: 2_000 };
    const config = {
      ...pipelineConfig,
      RECONCILE_INTERVAL_MS: 200,
      CA_LIMITS: {},
      DRIFT_CHECK_MINUTES: 0,
      BULK_RETRY_PER_MINUTE: 120,
    };
    const { id } = await pipeline.place({}, (order) => ({ ...order, updatedAt: Date.now() - 60_000 }));
    // Its round never comes to its end, and with its connection it is as good as dead.
    const redis = connectRedis(server.url, 'worker', () => {});
    const store = createStore(redis, pipeline.settings.prefix.slice(1, -1));
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const producer = { ...pipeline.producer, ensureJob: () => promise };
    const dying = { ...pipeline.resources, redis, store, producer, metrics: createMetrics('dying') };
    const dead = startScheduler(dying, config);
    await vi.waitUntil(() => pipeline.store.leases.isHeld('reconciler'));
    redis.disconnect();
    const other = startScheduler({ ...pipeline.resources, metrics: createMetrics('other') }, config);
    await pipeline.jobIn(id, 'validation', 1, 'waiting');
    resolve(false);
    await Promise.all([dead.stop(), other.stop()]);
  });
});
