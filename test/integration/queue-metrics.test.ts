import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { registerEstateMetrics } from '#libs/metrics/estate';
import type { Redis } from '../../services/lab/redis.ts';
import { createQueueNames } from '../../services/scheduler/queue-names.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

let server: Redis;
let pipeline: Pipeline;
let clock: FakeClock;
let registry: Registry;

/** The values of a gauge by queue; for jobs those that wait. */
async function gauge(name: string): Promise<Record<string, number>> {
  const text = await registry.getSingleMetricAsString(`certline_${name}`);
  const lines = [...text.matchAll(/\{queue="([^"]+)"(?:,state="(\w+)")?\} (\S+)/g)];
  const own = lines.filter(([, , state]) => state === undefined || state === 'waiting');
  return Object.fromEntries(own.map(([, queue, , value]) => [queue, Number(value)]));
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
  clock = fakeClock(Date.now());
  registry = new Registry();
  const none = async (): Promise<number> => 0;
  const { producer, store } = pipeline;
  const estate = {
    ...{ countOrders: none, countExpiring: none, nextExpiry: none, countRenewalDue: none },
    queueNames: createQueueNames(store.targets),
    queueCounts: producer.counts,
    oldestJob: producer.oldestWaiting,
    isServed: producer.isServed,
    ...{ countTargets: none, countDrift: none, countDriftedPlaces: none },
    ...{ countAccounts: none, countCredentials: none, countParkedAccounts: none, countParkedCredentials: none },
  };
  registerEstateMetrics(registry, estate, clock);
});
afterEach(() => pipeline.close());

describe('the gauges of the queues', () => {
  it('tell of the stages before there are targets', async () => {
    expect(await gauge('queue_jobs')).toEqual({ validation: 0, issuance: 0, deployment: 0, rollout: 0, drift: 0 });
  });

  it('tell of every pool that a target names, whether it has a worker or not', async () => {
    await pipeline.putTarget('tgt_1', 'dmz');
    await Promise.all(Array.from({ length: 450 }, (_, n) => pipeline.putTarget(`tgt_1${n}`, `pool-${n % 3}`)));
    await pipeline.producer.wakeTarget('tgt_1');
    const pools = { 'deployment-pool-0': 0, 'deployment-pool-1': 0, 'deployment-pool-2': 0 };
    expect(await gauge('queue_jobs')).toEqual({
      validation: 0,
      issuance: 0,
      deployment: 0,
      'deployment-dmz': 1,
      ...pools,
      rollout: 0,
      ...{ drift: 0, 'drift-dmz': 0, 'drift-pool-0': 0, 'drift-pool-1': 0, 'drift-pool-2': 0 },
    });
    // BullMQ notes the time of the machine.
    clock.advance(Date.now() + 20_000 - clock.now());
    const ages = await gauge('queue_oldest_job_age_seconds');
    expect(ages.deployment).toBe(0);
    expect(ages['deployment-dmz']).toBeGreaterThan(19);
  });

  it('forget a pool that no target names any more', async () => {
    await pipeline.putTarget('tgt_1', 'dmz');
    expect(await gauge('queue_jobs')).toHaveProperty('deployment-dmz');
    expect(await gauge('queue_oldest_job_age_seconds')).toHaveProperty('deployment-dmz');
    await pipeline.putTarget('tgt_1', 'default');
    const known = ['validation', 'issuance', 'deployment', 'rollout', 'drift'];
    expect(Object.keys(await gauge('queue_jobs'))).toEqual(known);
    expect(Object.keys(await gauge('queue_oldest_job_age_seconds'))).toEqual(known);
  });

  it('tell which queues have a worker', async () => {
    await pipeline.putTarget('tgt_1', 'dmz');
    await pipeline.putTarget('tgt_2', 'web02');
    const none = { validation: 0, issuance: 0, deployment: 0, rollout: 0, drift: 0, 'drift-dmz': 0 };
    const web02 = { 'deployment-web02': 0, 'drift-web02': 0 };
    expect(await gauge('queue_served')).toEqual({ ...none, ...web02, 'deployment-dmz': 0 });
    pipeline.startTargets(async () => [], 'dmz');
    expect(await gauge('queue_served')).toEqual({ ...none, ...web02, 'deployment-dmz': 1 });
    await pipeline.putTarget('tgt_2', 'default');
    expect(await gauge('queue_served')).toEqual({ ...none, 'deployment-dmz': 1 });
  });

  it('tell of the pool of a target that cannot be read', async () => {
    await pipeline.putTarget('tgt_1', 'dmz');
    await pipeline.redis.hset(pipeline.store.keys.target('tgt_1'), 'document', '{}');
    expect(await gauge('queue_jobs')).toHaveProperty('deployment-dmz');
  });
});
