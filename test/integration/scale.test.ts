import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pageOf } from '#libs/store/paging';
import { idleLooks } from '../../services/lab/bench-scale-looks.ts';
import { createEstate, type Estate } from '../../services/lab/estate.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { startScheduler } from '../../services/scheduler/service.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

/** Two estates in one Redis, as the benchmark seeds them: what is asked of Redis must not depend on how many orders there are. */
let server: Redis;
let small: { pipeline: Pipeline; estate: Estate };
let large: { pipeline: Pipeline; estate: Estate };

async function seeded(certificates: number, orders: number) {
  const pipeline = openPipeline(server);
  const estate = await createEstate({ store: pipeline.store, settings: pipeline.settings });
  await estate.growCertificates(certificates);
  await estate.growOrders(orders);
  return { pipeline, estate };
}

/** Commands that Redis ran for some work, those inside of scripts too, and bytes that it answered. */
async function asked({ redis }: Pick<Pipeline, 'redis'>, work: () => Promise<unknown>) {
  // Once without looking: queues and scripts are made known to Redis by their first use.
  await work();
  await redis.config('RESETSTAT');
  await work();
  const stats = await redis.info('everything');
  const commands = new Map<string, number>();
  for (const [, name = '', calls] of stats.matchAll(/^cmdstat_(\S+):calls=(\d+)/gm)) commands.set(name, Number(calls));
  commands.delete('config|resetstat');
  const bytes = Number(/^total_net_output_bytes:(\d+)/m.exec(stats)?.[1]);
  return { commands: Object.fromEntries([...commands].sort()), bytes };
}

/**
 * The same work for both. Which records a page has makes it longer or shorter, and of each target a word may be asked; what grows with the orders
 * would be ten times as long.
 */
async function expectNoGrowth(work: (of: { pipeline: Pipeline; estate: Estate }) => Promise<unknown>): Promise<void> {
  const [few, many] = [await asked(small.pipeline, () => work(small)), await asked(large.pipeline, () => work(large))];
  expect(many.commands).toEqual(few.commands);
  expect(many.bytes).toBeLessThan(few.bytes * 2 + 100);
}

beforeAll(async () => {
  server = await startTestRedis();
  small = await seeded(20, 300);
  large = await seeded(200, 3_000);
}, 120_000);
afterAll(async () => {
  await small?.pipeline.close();
  await large?.pipeline.close();
  await server?.close();
});

describe('with ten times the orders Redis is asked as much', () => {
  const monthAgo = (): string => `${Date.now() - 30 * 86_400_000}.ord_`;

  it.each([
    ['the first page of orders', () => ({ limit: 20 })],
    ['a page in the middle', () => ({ limit: 20, cursor: monthAgo() })],
    ['a page of one status', () => ({ limit: 20, status: 'deployed' as const })],
    ['a page of failed orders', () => ({ limit: 5, status: 'failed' as const })],
    ['a page of failed orders by code', () => ({ limit: 3, code: 'ca_wrong_answer' })],
    ['the orders of a name', () => ({ limit: 5, name: 'customer-7.example.com', status: 'deployed' as const })],
  ])('for %s', async (_what, filter) => {
    await expectNoGrowth(({ pipeline }) => pipeline.store.orders.list(filter()));
  });

  it('for a page of certificates', async () => {
    await expectNoGrowth(({ pipeline }) => pipeline.store.certificates.list({ limit: 1 }));
  });

  it('for an order, from its placing to its end', async () => {
    await expectNoGrowth(({ estate }) => estate.addOne());
  });

  const rounds = ['reconciler', 'held orders', 'bulk retries', 'drift', 'drift, sweep of targets', 'clean-up'];
  it.each([...rounds, 'CA budgets', 'pools of targets'])('for a round with nothing due: %s', async (name) => {
    await expectNoGrowth(async ({ pipeline }) => {
      const look = idleLooks(pipeline.resources).find((one) => one.name === `tick: ${name}`);
      if (!look) throw new Error(`there is no look ${name}`);
      await look.run();
    });
  });

  it('for the gauges of the scheduler', async () => {
    for (const { pipeline } of [small, large]) {
      const rounds = { RETRY_DELAY_SCALE: 1, LOCK_DURATION_MS: 5_000, STALLED_INTERVAL_MS: 500 };
      const config = { ...rounds, RECONCILE_INTERVAL_MS: 60_000, DRIFT_CHECK_MINUTES: 360, CA_LIMITS: undefined };
      const bulk = { BULK_RETRY_PER_MINUTE: 120 };
      await startScheduler(pipeline.resources, { ...config, ...bulk }).stop();
    }
    await expectNoGrowth(({ pipeline }) => pipeline.metrics.registry.metrics());
  });
});

describe('a page of rows that have all the same score', () => {
  it('costs at the end what it costs at the beginning, but for the search for its place', async () => {
    const { redis } = small.pipeline;
    const index = '{test}:one-score';
    const ids = Array.from({ length: 5_000 }, (_, i) => `id-${String(i).padStart(4, '0')}`);
    await redis.zadd(index, ...ids.flatMap((id) => ['7', id]));
    const first = await asked(small.pipeline, () => pageOf(redis, index, undefined, 50));
    const last = await asked(small.pipeline, () => pageOf(redis, index, '7.id-0050', 50));
    expect(last.bytes).toBeLessThan(first.bytes * 1.1);
    const sum = ({ commands }: typeof first): number => Object.values(commands).reduce((a, b) => a + b, 0);
    // 5,000 are halved 13 times.
    expect(sum(last)).toBeLessThanOrEqual(sum(first) + 2 + 14);
  });
});
