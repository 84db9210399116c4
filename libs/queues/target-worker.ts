import { DelayedError, type Job, WaitingError } from 'bullmq';
import { activeStage } from '../model/order.ts';
import type { TargetHandler } from './handler.ts';
import { createOrderRunner, type Run } from './order-runner.ts';
import type { TargetJob } from './producer.ts';
import type { WorkerSettings } from './stage-worker.ts';
import { deploymentLease, deploymentQueue, stages } from './stages.ts';
import { type RunningWorker, startWorker } from './worker.ts';

/** Orders that one job takes for a target, for one commit; the rest follow in the next. */
const batch = 1_000;
/** When an order that could not be read is looked at again. */
const putOffMs = 60_000;
/** When a target is looked at again on which a run could not make up for what an earlier one left. */
const unsettledMs = 60_000;
/** When a target is looked at again that the workers of another pool still deploy on. */
const busyMs = 500;

/** Runs the deployment stage for a pool: a job is a target, and drains all orders that are due there. */
export function startTargetWorker(handler: TargetHandler, settings: WorkerSettings, pool: string): RunningWorker {
  const runner = createOrderRunner('deployment', settings);
  const { orders, producer, leases, metrics, clock, log } = settings;

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

  /** Each as it failed; who may be on the target all the same stays in hand. */
  async function failAll(
    target: string,
    failed: readonly { run: Run<'deployment'>; thrown: unknown }[],
  ): Promise<void> {
    if (failed.length === 0) return;
    // One for all: orders that failed in one commit are tried again in one.
    const jitter = settings.random();
    // What cannot be read says nothing of any of them.
    const doubtful = await handler.inDoubt?.(target).catch((thrown: unknown) => {
      log.error({ err: thrown, target }, 'what an earlier commit left cannot be read');
      return null;
    });
    for (const { run, thrown } of failed) {
      const inDoubt = doubtful === null || (doubtful?.has(run.order.id) ?? false);
      await runner.fail(run, thrown, { jitter, inDoubt });
    }
  }

  async function deployAll(target: string, runs: Run<'deployment'>[], signal: AbortSignal): Promise<void> {
    const byId = new Map(runs.map((run) => [run.order.id, run]));
    const failed: { run: Run<'deployment'>; thrown: unknown }[] = [];
    const context = { clock, signal, log: log.child({ target, stage: 'deployment' }) };
    const outcomes = await handler.run(
      target,
      runs.map((run) => run.order),
      context,
    );
    for (const outcome of outcomes) {
      const run = byId.get(outcome.id);
      if (!run) continue;
      const error = 'error' in outcome ? outcome.error : null;
      const how = error?.plan.kind === 'wait' ? 'wait' : 'failed';
      const { kind = 'unknown' } = outcome;
      metrics.deployments.inc({ kind, outcome: error ? how : 'completed', code: error?.code ?? 'none' });
      if ('deployed' in outcome) await runner.succeed(run, outcome.deployed, outcome.also);
      else failed.push({ run, thrown: outcome.error });
    }
    await failAll(target, failed);
  }

  /** One commit of all that is due. `lost` is aborted when another worker has the target meanwhile. */
  async function drain(job: Job<TargetJob>, token: string, signal: AbortSignal, lost: AbortSignal): Promise<string> {
    const { target } = job.data;
    const runs = await beginAll(target, job.stalledCounter);
    const isUnsettled = async (): Promise<boolean> => (await handler.unsettled?.(target)) ?? false;
    // The order whose run was cut off may have ended since: what that run left must not wait for another one.
    const called = runs.length > 0 || (await isUnsettled());
    try {
      if (called) await deployAll(target, runs, AbortSignal.any([signal, lost]));
    } catch (thrown) {
      if (signal.aborted) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      if (lost.aborted) {
        log.warn({ target }, 'this worker was silent for too long: another one has the target');
        return 'lost';
      }
      await failAll(
        target,
        runs.map((run) => ({ run, thrown })),
      );
      if (runs.length === 0) log.warn({ err: thrown, target }, 'what an earlier run left is not made up for yet');
    }
    const next = await orders.nextDue(target);
    const again = called && (await isUnsettled()) ? clock.now() + unsettledMs : null;
    // One wake for both: a later one replaces an earlier one.
    const at = Math.min(next ?? Number.POSITIVE_INFINITY, again ?? Number.POSITIVE_INFINITY);
    if (at < Number.POSITIVE_INFINITY) await producer.wakeTarget(target, Math.max(0, at - clock.now()));
    return `${runs.length} orders`;
  }

  const { concurrency } = stages.deployment;
  return startWorker<TargetJob>({ queue: deploymentQueue(pool), concurrency }, settings, async (job, token, signal) => {
    const { target } = job.data;
    if (job.name === 'wake' || (await producer.poolOf(target)) !== pool) {
      // In the pool that the target names now: it may have been moved since the job was added.
      await producer.wakeTarget(target);
      return 'woken';
    }
    // A queue runs one job of a target at a time; when it is moved to another pool, only the lease tells the two queues apart.
    const held = await leases.hold(deploymentLease(target), settings.lockDuration, (lost) =>
      drain(job, token, signal, lost),
    );
    if (held !== null) return held.result;
    await job.moveToDelayed(clock.now() + busyMs, token);
    throw new DelayedError();
  });
}
