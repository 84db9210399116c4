import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Difference } from '#libs/model/drift';
import type { Target } from '#libs/model/target';
import { createDriftLooks } from '#libs/queues/drift-looks';
import { startDriftWorker } from '#libs/queues/drift-worker';
import type { RunningWorker } from '#libs/queues/worker';
import type { Redis } from '../../services/lab/redis.ts';
import { type DriftTarget, openDriftTarget } from '../support/drift-target.ts';
import type { FakeClock } from '../support/fake-clock.ts';
import { type Pipeline, startTestRedis } from '../support/pipeline.ts';

const hour = 3_600_000;

let server: Redis;
let drift: DriftTarget;
let pipeline: Pipeline;
let clock: FakeClock;
let target: Target;
let workers: RunningWorker[];
/** What the target is found to be. */
let found: Difference[];

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  drift = await openDriftTarget(server, () => found, 'repair');
  ({ pipeline, clock, target } = drift);
  await drift.certificate('crt_1', ['a.example.com']);
  workers = [];
  found = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop(0)));
  await pipeline.close();
});

describe('the worker of looks', () => {
  function start(own = drift.looks()): void {
    const { store, settings } = pipeline;
    const deps = {
      findTarget: store.targets.get,
      looks: own,
      repairs: drift.repairs(),
      schedule: store.driftSchedule,
      clock,
    };
    workers.push(startDriftWorker(deps, settings, 'default'));
  }
  const idle = () =>
    vi.waitUntil(async () => (await pipeline.queue('drift').getJobs()).length === 0, { timeout: 10_000 });

  it('repairs a target that is to be repaired, and looks at it again soon', async () => {
    found = [await drift.expected('a')];
    await pipeline.store.driftSchedule.add([{ target: 'tgt_1', at: clock.now() + 6 * hour }]);
    start();
    await pipeline.producer.lookForDrift('tgt_1', 'default');
    await idle();
    expect(await drift.unfinished()).toMatchObject([{ request: { deploy: { only: ['a'] } } }]);
    expect(await pipeline.store.driftSchedule.due(clock.now() + 600_000, 10)).toEqual(['tgt_1']);
  });

  it('only reports on a target that is not', async () => {
    await pipeline.store.targets.put({ ...target, drift: 'report' });
    found = [await drift.expected('a')];
    start();
    await pipeline.producer.lookForDrift('tgt_1', 'default');
    await idle();
    expect(await pipeline.store.driftReports.get('tgt_1')).toMatchObject({ state: 'drifted' });
    expect(await drift.unfinished()).toEqual([]);
  });

  it('hands a look back when its process stops, and another one does it', async () => {
    const begun = Promise.withResolvers<void>();
    const hanging = createDriftLooks({
      ...{ ...pipeline.store, ...pipeline.settings, undo: drift.undo, log: drift.log },
      check: (_target, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
          begun.resolve();
        }),
    });
    start(hanging);
    await pipeline.producer.lookForDrift('tgt_1', 'default');
    await begun.promise;
    await workers[0]?.stop(0);
    expect(await pipeline.store.driftReports.get('tgt_1')).toBeNull();
    start();
    await idle();
    expect(await pipeline.store.driftReports.get('tgt_1')).toMatchObject({ state: 'in_sync' });
  });
});
