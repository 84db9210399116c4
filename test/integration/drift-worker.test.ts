import { type Logger, pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Certificate } from '#libs/model/certificate';
import type { Difference, Expectation } from '#libs/model/drift';
import type { Order, TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { createDriftLooks, type DriftLooks } from '#libs/queues/drift-looks';
import { createDriftRepairs, type DriftRepairs, type DriftRepairsDeps } from '#libs/queues/drift-repairs';
import { startDriftWorker } from '#libs/queues/drift-worker';
import type { RunningWorker } from '#libs/queues/worker';
import { createUndoRecords } from '#libs/store/undo-records';
import type { Redis } from '../../services/lab/redis.ts';
import { difference, finding } from '../support/drift-findings.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

const hour = 3_600_000;
const site = (id: number): TargetDeploy => ({ mode: 'site', target: 'tgt_1', site: id });

let server: Redis;
let pipeline: Pipeline;
let clock: FakeClock;
let log: Logger;
let warnings: { msg: string; [field: string]: unknown }[];
let target: Target;
let workers: RunningWorker[];
/** What the target is found to be. */
let found: Difference[];

const undo = () => createUndoRecords(pipeline.redis, pipeline.store.keys);
const looks = (check = async () => finding('tgt_1', found, { checkedAt: clock.now() })): DriftLooks =>
  createDriftLooks({ ...pipeline.store, ...pipeline.settings, undo: undo(), check, clock, log });
const repairs = (more: Partial<DriftRepairsDeps> = {}): DriftRepairs =>
  createDriftRepairs({ ...pipeline.store, ...pipeline.settings, clock, log, ...more });

async function certificate(id: string, names: string[], more: Partial<Certificate> = {}): Promise<void> {
  const key = { serial: id, thumbprint: id.padEnd(40, '0'), issuer: 'CN=Test', leaf: '', privateKey: `${id}.1` };
  const times = { notBefore: 0, notAfter: clock.now() + 1_000 * hour, renewAt: 0, createdAt: 0 };
  const record = {
    ...{ id, order: 'ord_first', account: 'acc_9', names, keyType: 'ec-p256' as const },
    ...key,
    ...times,
  };
  await pipeline.store.certificates.create({ ...record, ...more }, '');
}
/** Something that a deployment left at a place, and what is found there now. */
async function expected(place: string, more: Partial<Expectation> = {}): Promise<Difference> {
  const expectation = {
    ...{ place, order: 'ord_1', certificate: 'crt_1', thumbprint: 'A'.repeat(40), store: 'My', sslFlags: 1, at: 0 },
    ...{ deploy: site(1), ...more },
  };
  for (const [name, ...args] of pipeline.store.expectations.recording('tgt_1', [expectation]))
    await pipeline.redis.call(name, ...args);
  return difference(place, { order: expectation.order, certificate: expectation.certificate });
}
const unfinished = async (): Promise<Order[]> =>
  Promise.all((await pipeline.store.orders.unfinishedAt('tgt_1')).sort().map(pipeline.read));
beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  clock = fakeClock(Date.now());
  warnings = [];
  log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line)) });
  target = { ...(await pipeline.putTarget('tgt_1', 'default')), drift: 'repair' };
  await pipeline.store.targets.put(target);
  await certificate('crt_1', ['a.example.com']);
  workers = [];
  found = [];
});
afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.stop(0)));
  await pipeline.close();
});

describe('the worker of looks', () => {
  function start(own = looks()): void {
    const { store, settings } = pipeline;
    const deps = {
      findTarget: store.targets.get,
      looks: own,
      repairs: repairs(),
      schedule: store.driftSchedule,
      clock,
    };
    workers.push(startDriftWorker(deps, settings, 'default'));
  }
  const idle = () =>
    vi.waitUntil(async () => (await pipeline.queue('drift').getJobs()).length === 0, { timeout: 10_000 });

  it('repairs a target that is to be repaired, and looks at it again soon', async () => {
    found = [await expected('a')];
    await pipeline.store.driftSchedule.add([{ target: 'tgt_1', at: clock.now() + 6 * hour }]);
    start();
    await pipeline.producer.lookForDrift('tgt_1', 'default');
    await idle();
    expect(await unfinished()).toMatchObject([{ request: { deploy: { only: ['a'] } } }]);
    expect(await pipeline.store.driftSchedule.due(clock.now() + 600_000, 10)).toEqual(['tgt_1']);
  });

  it('only reports on a target that is not', async () => {
    await pipeline.store.targets.put({ ...target, drift: 'report' });
    found = [await expected('a')];
    start();
    await pipeline.producer.lookForDrift('tgt_1', 'default');
    await idle();
    expect(await pipeline.store.driftReports.get('tgt_1')).toMatchObject({ state: 'drifted' });
    expect(await unfinished()).toEqual([]);
  });

  it('hands a look back when its process stops, and another one does it', async () => {
    const begun = Promise.withResolvers<void>();
    const hanging = createDriftLooks({
      ...{ ...pipeline.store, ...pipeline.settings, undo: undo(), log },
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
