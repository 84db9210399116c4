import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { registerEstateMetrics } from '#libs/metrics/estate';
import type { Target } from '#libs/model/target';
import { createDriftLooks } from '#libs/queues/drift-looks';
import { startDriftWorker } from '#libs/queues/drift-worker';
import type { RunningWorker } from '#libs/queues/worker';
import { createUndoRecords } from '#libs/store/undo-records';
import type { Redis } from '../../services/lab/redis.ts';
import { createDriftRounds } from '../../services/scheduler/drift-schedule.ts';
import { difference, finding, unknown } from '../support/drift-findings.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

const hour = 3_600_000;

let server: Redis;
let pipeline: Pipeline;
let clock: FakeClock;
let workers: RunningWorker[];

/** A scheduler's rounds; each call of the answer is one of them. New targets are never looked at in the very round that finds them. */
const rounds = (intervalMs = 6 * hour) => {
  const { store, producer, resources } = pipeline;
  const deps = { schedule: store.driftSchedule, findTarget: store.targets.get, producer, log: resources.log };
  return createDriftRounds({ ...deps, clock, intervalMs, random: () => 0.1 + 0.8 * Math.random() });
};
/** Targets whose look waits in the queue of a pool. */
const waiting = async (pool = 'default'): Promise<string[]> => {
  const jobs = await pipeline.queue(pool === 'default' ? 'drift' : `drift-${pool}`).getJobs(['waiting', 'delayed']);
  return jobs.map(({ data }) => data.target as string).sort();
};
const nextLook = async (target: string): Promise<number | null> => {
  const score = await pipeline.redis.zscore(pipeline.store.keys.driftSchedule, target);
  return score === null ? null : Number(score);
};
/** A worker of a pool, whose looks find what the test says. */
function startWorker(pool: string, look: (target: Target) => Promise<Parameters<typeof finding>[1] | null>) {
  const { store, settings, redis } = pipeline;
  const looks = createDriftLooks({
    ...{ ...store, ...settings, clock, undo: createUndoRecords(redis, store.keys) },
    async check(target) {
      const found = await look(target);
      return found === null ? unknown(target.id, clock.now()) : finding(target.id, found, { checkedAt: clock.now() });
    },
  });
  const repairs = { place: async () => expect.fail('nothing is to be repaired here') };
  const deps = { findTarget: store.targets.get, looks, repairs, schedule: store.driftSchedule, clock };
  const worker = startDriftWorker(deps, settings, pool);
  workers.push(worker);
  return worker;
}
const reported = (target: string, state: string) =>
  vi.waitUntil(async () => (await pipeline.store.driftReports.get(target))?.state === state, { timeout: 10_000 });

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
  clock = fakeClock(Date.now());
  workers = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop(0)));
  await pipeline.close();
});

describe('the schedule of looks', () => {
  it('finds new targets, looks at each of them once in an interval, and at none twice', async () => {
    await pipeline.putTarget('tgt_1', 'default');
    await pipeline.putTarget('tgt_2', 'dmz');
    const round = rounds();
    await round();
    clock.advance(2_000);
    await round();
    expect([await waiting(), await waiting('dmz')]).toEqual([['tgt_1'], ['tgt_2']]);
    await pipeline.putTarget('tgt_3', 'default');
    expect(await round()).toBe(0);
    clock.advance(60_000);
    await round();
    clock.advance(1_000);
    await round();
    expect(await waiting()).toEqual(['tgt_1', 'tgt_3']);
    for (const target of ['tgt_1', 'tgt_2', 'tgt_3']) {
      const next = ((await nextLook(target)) ?? 0) - clock.now();
      expect(next).toBeGreaterThan(5.3 * hour);
      expect(next).toBeLessThan(6.7 * hour);
    }
    clock.advance(5 * hour);
    expect(await round()).toBe(0);
    clock.advance(1.7 * hour);
    expect(await round()).toBe(3);
  });

  it('takes up many new targets one after the other', async () => {
    await Promise.all(Array.from({ length: 300 }, (_, n) => pipeline.putTarget(`tgt_${n}`, 'default')));
    const round = rounds();
    await round();
    clock.advance(60_000);
    await round();
    expect((await waiting()).length).toBeGreaterThan(0);
    expect((await waiting()).length).toBeLessThan(150);
    clock.advance(240_000);
    await round();
    expect(await waiting()).toHaveLength(300);
  });

  it('asks again for nothing that waits: a pool without workers does not pile up', async () => {
    await pipeline.putTarget('tgt_1', 'nobody');
    const round = rounds();
    for (let n = 0; n < 10; n += 1) {
      await round();
      clock.advance(7 * hour);
    }
    expect(await waiting('nobody')).toEqual(['tgt_1']);
    startWorker('nobody', async () => []);
    await reported('tgt_1', 'in_sync');
    // The job is gone with its end: the next look is asked for again.
    await vi.waitUntil(async () => (await pipeline.queue('drift-nobody').getJobs()).length === 0, { timeout: 10_000 });
    const before = (await pipeline.store.driftReports.get('tgt_1'))?.checkedAt ?? 0;
    clock.advance(7 * hour);
    await round();
    await vi.waitUntil(async () => ((await pipeline.store.driftReports.get('tgt_1'))?.checkedAt ?? 0) > before, {
      timeout: 10_000,
    });
  });

  it('may be kept by two schedulers at once', async () => {
    for (let n = 1; n <= 20; n += 1) await pipeline.putTarget(`tgt_${n}`, 'default');
    const [one, other] = [rounds(), rounds()];
    for (let n = 0; n < 3; n += 1) {
      await Promise.all([one(), other(), one(), other()]);
      clock.advance(30_000);
    }
    expect(await waiting()).toHaveLength(20);
    const next = await pipeline.redis.zrange(pipeline.store.keys.driftSchedule, '0', '-1');
    expect(next).toHaveLength(20);
  });

  it('is off with an interval of 0, and forgets nothing', async () => {
    await pipeline.putTarget('tgt_1', 'default');
    await rounds()();
    const off = rounds(0);
    clock.advance(24 * hour);
    expect(await off()).toBe(0);
    expect(await waiting()).toEqual([]);
    await rounds()();
    expect(await waiting()).toEqual(['tgt_1']);
  });

  it('keeps to a shorter interval at once', async () => {
    await pipeline.putTarget('tgt_1', 'default');
    const slow = rounds(24 * hour);
    await slow();
    clock.advance(1_000);
    await slow();
    expect(((await nextLook('tgt_1')) ?? 0) - clock.now()).toBeGreaterThan(21 * hour);
    await rounds(hour)();
    expect(((await nextLook('tgt_1')) ?? 0) - clock.now()).toBeLessThanOrEqual(hour);
  });

  it('drops a target that is gone, and is not held up by one that cannot be read', async () => {
    for (const id of ['tgt_1', 'tgt_2', 'tgt_3']) await pipeline.putTarget(id, 'default');
    const round = rounds();
    await round();
    await pipeline.redis.hset(pipeline.store.keys.target('tgt_1'), 'document', '{}');
    await pipeline.store.targets.remove('tgt_2');
    clock.advance(61_000);
    await round();
    expect(await waiting()).toEqual(['tgt_3']);
    expect(await nextLook('tgt_2')).toBeNull();
    expect(await nextLook('tgt_1')).toBeGreaterThan(clock.now());
  });

  it('looks at a target in the pool that it has now', async () => {
    await pipeline.putTarget('tgt_1', 'nobody');
    const round = rounds();
    await round();
    clock.advance(2_000);
    await round();
    expect(await waiting('nobody')).toEqual(['tgt_1']);
    await pipeline.putTarget('tgt_1', 'default');
    const looked: string[] = [];
    const look = async ({ pool }: Target) => {
      looked.push(pool);
      return [];
    };
    startWorker('nobody', look);
    await vi.waitUntil(async () => (await waiting('nobody')).length === 0, { timeout: 10_000 });
    startWorker('default', look);
    clock.advance(7 * hour);
    await round();
    await reported('tgt_1', 'in_sync');
    expect(looked).toEqual(['default']);
  });

  it('comes back sooner to a target that could not be looked at', async () => {
    await pipeline.putTarget('tgt_1', 'default');
    const round = rounds();
    await round();
    let down = true;
    startWorker('default', async () => (down ? null : []));
    clock.advance(2_000);
    await round();
    await reported('tgt_1', 'unknown');
    await vi.waitUntil(async () => ((await nextLook('tgt_1')) ?? 0) <= clock.now() + 600_000, { timeout: 10_000 });
    down = false;
    clock.advance(601_000);
    await round();
    await reported('tgt_1', 'in_sync');
  });
});

describe('the gauges of drift', () => {
  it('tell how many targets are in which state, those that nobody has looked at too, and how many places differ', async () => {
    for (let n = 1; n <= 6; n += 1) await pipeline.putTarget(`tgt_${n}`, 'default');
    const { driftReports, targets } = pipeline.store;
    await driftReports.save(finding('tgt_1', [difference('a'), difference('b')]));
    await driftReports.save(finding('tgt_2', [difference('a')]));
    await driftReports.save(finding('tgt_3'));
    await driftReports.save(unknown('tgt_4', 1_000));
    const registry = new Registry();
    const none = async (): Promise<number> => 0;
    const estate = {
      ...{ countOrders: none, countExpiring: none, nextExpiry: none, countRenewalDue: none, oldestJob: none },
      ...{ queueNames: async () => [], queueCounts: async () => ({}), isServed: async () => true },
      ...{ countTargets: targets.count, countDrift: driftReports.count, countDriftedPlaces: driftReports.countPlaces },
      ...{ countAccounts: none, countCredentials: none, countParkedAccounts: none, countParkedCredentials: none },
    };
    registerEstateMetrics(registry, estate, clock);
    const text = await registry.metrics();
    expect(text.split('\n').filter((line) => /^certline_(targets|drifted_places)/.test(line))).toEqual([
      'certline_targets{drift="nothing"} 0',
      'certline_targets{drift="in_sync"} 1',
      'certline_targets{drift="drifted"} 2',
      'certline_targets{drift="unknown"} 1',
      'certline_targets{drift="unchecked"} 2',
      'certline_drifted_places 3',
    ]);
  });
});
