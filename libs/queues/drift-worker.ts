import { WaitingError } from 'bullmq';
import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import type { Target } from '../model/target.ts';
import type { DriftSchedule } from '../store/drift-schedule.ts';
import type { DriftLooks } from './drift-looks.ts';
import type { DriftRepairs } from './drift-repairs.ts';
import type { TargetJob } from './producer.ts';
import { driftQueue, poisonLimit } from './stages.ts';
import { type RunningWorker, startWorker, type WorkerConnection } from './worker.ts';

export interface DriftWorkerDeps {
  findTarget(id: string): Promise<Target | null>;
  looks: DriftLooks;
  repairs: DriftRepairs;
  schedule: Pick<DriftSchedule, 'sooner'>;
  clock: Clock;
}

/** Targets that are looked at at a time: after a pause all of them may be due. */
const concurrency = 5;
/** When a target is looked at again that could not be looked at, or was repaired, if that is sooner than it would be, ms. */
const againMs = 600_000;

/** Looks at the targets of a pool as the scheduler asks for it, and repairs those that are to be repaired. May run twice at any line. */
export function startDriftWorker(deps: DriftWorkerDeps, settings: WorkerConnection, pool: string): RunningWorker {
  const { findTarget, looks, repairs, schedule, clock } = deps;
  const { log } = settings;

  async function lookAt(target: Target, signal: AbortSignal): Promise<string> {
    const report = await looks.look(target, signal);
    let again = report.state === 'unknown';
    if (report.state === 'drifted' && target.drift === 'repair') {
      const { orders } = await repairs.place(target, report, 'policy');
      again = orders.length > 0;
    }
    if (again) await schedule.sooner(target.id, clock.now() + againMs);
    return report.state;
  }

  return startWorker<TargetJob>({ queue: driftQueue(pool), concurrency }, settings, async (job, token, signal) => {
    const target = await findTarget(job.data.target);
    // Moved or deleted since: the schedule has its next look in the pool that it has then.
    if (target === null || target.pool !== pool) return 'dropped';
    if (job.stalledCounter > poisonLimit) {
      log.error({ target: target.id }, `${job.stalledCounter} workers died on the look at ${target.name}: left out`);
      return 'dropped';
    }
    try {
      return await lookAt(target, signal);
    } catch (thrown) {
      if (signal.aborted) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      const code = thrown instanceof CertlineError ? thrown.code : 'unexpected';
      if (code === 'target_unknown') return 'dropped';
      if (code !== 'deployment_under_way') log.warn({ err: thrown, target: target.id }, 'the look at a target failed');
      await schedule.sooner(target.id, clock.now() + againMs);
      return code;
    }
  });
}
