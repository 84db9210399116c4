import { DelayedError, type Job, UnrecoverableError, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { activeStage, type StageName } from '../model/order.ts';
import type { StageHandler, TargetHandler } from './handler.ts';
import { createOrderRunner, type Run, type RunnerOptions } from './order-runner.ts';
import { keepJobs, type StageJob, type TargetJob } from './producer.ts';
import { stages } from './stages.ts';

export interface WorkerSettings extends RunnerOptions {
  redis: Redis;
  prefix: string;
  /** How long a worker may be silent before others take its jobs, ms. */
  lockDuration: number;
  /** How often that is looked for, ms. */
  stalledInterval: number;
}

/** A running worker. */
export interface RunningWorker {
  /** Takes no more jobs; lets those under way finish for `graceMs`, then hands them back to the queue. */
  stop(graceMs: number): Promise<void>;
}

/** The delay of a failed attempt, told to BullMQ, which asks `backoffStrategy` for it. */
class AttemptFailed extends Error {
  override readonly name = 'AttemptFailed';
  readonly delay: number;
  constructor(message: string, delay: number) {
    super(message);
    this.delay = delay;
  }
}

function startWorker<T>(
  stage: StageName,
  settings: WorkerSettings,
  process: (job: Job<T>, token: string, signal: AbortSignal) => Promise<string>,
): RunningWorker {
  const { redis, prefix, lockDuration, stalledInterval, log } = settings;
  const never = new AbortController().signal;
  // BullMQ counts the processor's parameters: without a third one, or with default values, there is no signal to cancel by.
  const processor = (job: Job<T>, token: string | undefined, signal: AbortSignal | undefined): Promise<string> =>
    process(job, token ?? '', signal ?? never);
  const worker = new Worker<T, string>(stage, processor, {
    connection: redis,
    prefix,
    concurrency: stages[stage].concurrency,
    lockDuration,
    stalledInterval,
    // A job is never failed for the workers that died on it: the order's own poison rule decides.
    maxStalledCount: 1_000,
    ...keepJobs,
    settings: { backoffStrategy: (_attempts, _type, error) => (error instanceof AttemptFailed ? error.delay : 1_000) },
  });
  worker.on('error', (error) => log.warn({ err: error, stage }, 'the worker met an error of Redis'));
  worker.on('stalled', (job) => log.warn({ job, stage }, 'a worker fell silent: its job is taken over'));
  return {
    async stop(graceMs) {
      const hurry = setTimeout(() => worker.cancelAllJobs('the process stops'), graceMs);
      await worker.close();
      clearTimeout(hurry);
    },
  };
}

/** Runs a stage that works on one order at a time. The only place, with `startTargetWorker`, that knows BullMQ's processors. */
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

  return startWorker<StageJob>(stage, settings, async (job, token, signal) => {
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

/** Orders that one job takes for a target; the rest follow in the next. */
const batch = 100;
/** When an order that could not be read is looked at again. */
const putOffMs = 60_000;

/** Runs the deployment stage: a job is a target, and drains all orders that are due there. */
export function startTargetWorker(handler: TargetHandler, settings: WorkerSettings): RunningWorker {
  const runner = createOrderRunner('deployment', settings);
  const { orders, producer, metrics, clock, log } = settings;

  async function dropUnlessDeployable(target: string, id: string): Promise<void> {
    const order = await orders.get(id);
    if (order === null || activeStage(order) !== 'deployment') await orders.dropDue(target, id);
  }

  async function beginAll(target: string, crashes: number): Promise<Run<'deployment'>[]> {
    const runs: Run<'deployment'>[] = [];
    for (const id of await orders.due(target, clock.now(), batch)) {
      try {
        const begun = await runner.begin(id, { crashes });
        if (begun.kind === 'run') runs.push(begun.run);
        else if (begun.kind === 'stale') await dropUnlessDeployable(target, id);
      } catch (error) {
        // A record that cannot be read must not hold up the others.
        log.error({ err: error, order: id }, 'the order cannot be read: put off');
        await orders.putOffDue(target, id, clock.now() + putOffMs);
      }
    }
    return runs;
  }

  async function deployAll(target: string, runs: Run<'deployment'>[], signal: AbortSignal): Promise<void> {
    const byId = new Map(runs.map((run) => [run.order.id, run]));
    const context = { clock, signal, log: log.child({ target, stage: 'deployment' }) };
    const outcomes = await handler.run(
      target,
      runs.map((run) => run.order),
      context,
    );
    for (const outcome of outcomes) {
      const run = byId.get(outcome.id);
      if (!run) continue;
      const code = 'error' in outcome ? outcome.error.code : 'none';
      metrics.deployments.inc({ kind: 'iis', outcome: code === 'none' ? 'completed' : 'failed', code });
      if ('deployed' in outcome) await runner.succeed(run, outcome.deployed);
      else await runner.fail(run, outcome.error);
    }
  }

  return startWorker<TargetJob>('deployment', settings, async (job, token, signal) => {
    const { target } = job.data;
    if (job.name === 'wake') {
      await producer.wakeTarget(target);
      return 'woken';
    }
    const runs = await beginAll(target, job.stalledCounter);
    try {
      if (runs.length > 0) await deployAll(target, runs, signal);
    } catch (thrown) {
      if (signal.aborted) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      for (const run of runs) await runner.fail(run, thrown);
    }
    const next = await orders.nextDue(target);
    if (next !== null) await producer.wakeTarget(target, Math.max(0, next - clock.now()));
    return `${runs.length} orders`;
  });
}
