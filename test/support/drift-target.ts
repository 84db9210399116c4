import { type Logger, pino } from 'pino';
import type { Certificate } from '#libs/model/certificate';
import type { Difference, Expectation } from '#libs/model/drift';
import type { Order } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { createDriftLooks, type DriftCheck, type DriftLooks } from '#libs/queues/drift-looks';
import { createDriftRepairs, type DriftRepairs, type DriftRepairsDeps } from '#libs/queues/drift-repairs';
import { createUndoRecords, type UndoRecords } from '#libs/store/undo-records';
import type { Redis } from '../../services/lab/redis.ts';
import { difference, finding } from './drift-findings.ts';
import { type FakeClock, fakeClock } from './fake-clock.ts';
import { openPipeline, type Pipeline } from './pipeline.ts';

const hour = 3_600_000;

/** A target whose state a test makes up, with the real looks and repairs on a real Redis. */
export interface DriftTarget {
  pipeline: Pipeline;
  clock: FakeClock;
  log: Logger;
  /** What was logged as a warning. */
  warnings: { msg: string; [field: string]: unknown }[];
  target: Target;
  undo: UndoRecords;
  looks(check?: DriftCheck): DriftLooks;
  repairs(more?: Partial<DriftRepairsDeps>): DriftRepairs;
  certificate(id: string, names: string[], more?: Partial<Certificate>): Promise<void>;
  /** Something that a deployment left at a place, and what is found there now. */
  expected(place: string, more?: Partial<Expectation>): Promise<Difference>;
  unfinished(): Promise<Order[]>;
}

/** Opens `tgt_1`, to be closed with its pipeline. `found` tells what looks find there. */
export async function openDriftTarget(
  server: Redis,
  found: () => Difference[],
  drift: Target['drift'] = 'report',
): Promise<DriftTarget> {
  const pipeline = openPipeline(server);
  const { store, settings } = pipeline;
  const clock = fakeClock(Date.now());
  const warnings: DriftTarget['warnings'] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line)) });
  const target = { ...(await pipeline.putTarget('tgt_1', 'default')), drift };
  await store.targets.put(target);
  const undo = createUndoRecords(pipeline.redis, store.keys);
  const shared = { ...store, ...settings, clock, log };
  return {
    ...{ pipeline, clock, log, warnings, target, undo },
    looks: (check = async () => finding('tgt_1', found(), { checkedAt: clock.now() })) =>
      createDriftLooks({ ...shared, undo, check }),
    repairs: (more = {}) => createDriftRepairs({ ...shared, ...more }),
    async certificate(id, names, more = {}) {
      const key = { serial: id, thumbprint: id.padEnd(40, '0'), issuer: 'CN=Test', leaf: '', privateKey: `${id}.1` };
      const times = { notBefore: 0, notAfter: clock.now() + 1_000 * hour, renewAt: 0, createdAt: 0 };
      const record = { id, order: 'ord_first', account: 'acc_9', names, keyType: 'ec-p256' as const, ...key, ...times };
      await store.certificates.create({ ...record, ...more }, '');
    },
    async expected(place, more = {}) {
      const expectation = {
        ...{ place, order: 'ord_1', certificate: 'crt_1', thumbprint: 'A'.repeat(40), store: 'My', sslFlags: 1, at: 0 },
        ...{ deploy: { mode: 'site' as const, target: 'tgt_1', site: 1 }, ...more },
      };
      for (const [name, ...args] of store.expectations.recording('tgt_1', [expectation]))
        await pipeline.redis.call(name, ...args);
      return difference(place, { order: expectation.order, certificate: expectation.certificate });
    },
    unfinished: async () => Promise.all((await store.orders.unfinishedAt('tgt_1')).sort().map(pipeline.read)),
  };
}
