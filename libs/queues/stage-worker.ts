import { DelayedError, type Job, UnrecoverableError, WaitingError } from 'bullmq';
import type { Leases } from '../store/leases.ts';
import type { StageHandler } from './handler.ts';
import { createOrderRunner, type Run, type RunnerOptions } from './order-runner.ts';
import type { StageJob } from './producer.ts';
import { stages } from './stages.ts';
import { AttemptFailed, type RunningWorker, startWorker, type WorkerConnection } from './worker.ts';

export interface WorkerSettings extends RunnerOptions, WorkerConnection {
  /** Holds a target for one deployment at a time. */
  leases: Leases;
}

/** Runs a stage that works on one order at a time. */
export function startStageWorker<S extends 'validation' | 'issuance'>(
  stage: S,
  handler: StageHandler<S>,
  settings: WorkerSettings,
): RunningWorker {
  const runner = createOrderRunner(stage, settings);
  const { clock } = settings;

  async function attempt(run: Run<S>, job: Job<StageJob>, token: string, signal: AbortSignal): Promise<string> {
    try {
      const context = { clock, log: run.log, signal, checkpoint: run.checkpoint, current: () => run.order };
      const next = await handler.run(run.order, context);
      return (await runner.succeed(run, next)) === null ? 'stale' : 'completed';
    } catch (thrown) {
      if (signal.aborted) {
        run.log.info('handed back: the process stops');
        await job.moveToWait(token);
        throw new WaitingError();
      }
      const outcome = await runner.fail(run, thrown);
      if (outcome === null) return 'stale';
      const { kind, order } = outcome;
      const words = `${order.error?.code}: ${order.error?.detail}`;
      const at = order.nextAttemptAt ?? clock.now();
      switch (kind) {
        case 'failed':
          throw new UnrecoverableError(words);
        case 'retry':
          throw new AttemptFailed(words, Math.max(0, at - clock.now()));
        case 'wait':
          await job.moveToDelayed(at, token);
          throw new DelayedError();
        case 'restart':
        case 'parked':
          return kind;
      }
    }
  }

  const { concurrency } = stages[stage];
  return startWorker<StageJob>({ queue: stage, concurrency }, settings, async (job, token, signal) => {
    const epoch = Number(job.id?.split('.')[2]);
    const begun = await runner.begin(job.data.order, { epoch, crashes: job.stalledCounter });
    switch (begun.kind) {
      case 'stale':
        return 'stale';
      case 'failed':
        throw new UnrecoverableError(`${begun.error.code}: ${begun.error.message}`);
      case 'early':
        await job.moveToDelayed(begun.at, token);
        throw new DelayedError();
      case 'run':
        return attempt(begun.run, job, token, signal);
    }
  });
}
