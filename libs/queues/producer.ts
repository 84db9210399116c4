import type { Clock } from '../clock.ts';
import { activeStage, isFinal, isForOneTarget, isWindingDown, type Order } from '../model/order.ts';
import { isServed } from './heartbeat.ts';
import { openQueues, type QueueConnection } from './queues.ts';
import { deploymentQueue, driftQueue, jobId, rolloutQueue } from './stages.ts';

/** What a job carries: an id, never a copy of a record and never a secret. */
export type StageJob = { order: string };
export type TargetJob = { target: string };
export type RolloutJob = { order: string };

/** Attempts are counted in the order record; BullMQ's own limit must never be met first. */
const bullmqAttempts = 1_000_000;

/** Puts orders into queues. */
export interface Producer {
  /**
   * Adds the job that drives the order's current stage; a no-op when it is there already, or nothing is to be done. The rollout that an
   * order which ended is a part of is told, as are the parts of one that was called off, whose own job goes unless a worker has it.
   */
  enqueue(order: Order): Promise<void>;
  /** As `enqueue`, but replaces a job that ended without moving the order on. Answers whether a job had to be added. */
  ensureJob(order: Order): Promise<boolean>;
  /** Wakes the deployment of a target in its pool, after `delayMs`. */
  wakeTarget(target: string, delayMs?: number): Promise<void>;
  /** Asks the workers of a pool to look for drift of a target; a no-op while that is asked already, however long it waits. */
  lookForDrift(target: string, pool: string): Promise<void>;
  /** The pool whose workers deploy on a target now. */
  poolOf(target: string): Promise<string>;
  counts(queue: string): Promise<Record<string, number>>;
  /** Whether a worker has said in the last minute that it takes the jobs of a queue. */
  isServed(queue: string): Promise<boolean>;
  /** When the oldest waiting job was added, ms since the epoch. */
  oldestWaiting(queue: string): Promise<number | null>;
  close(): Promise<void>;
}

export interface ProducerOptions extends QueueConnection {
  clock: Clock;
  /** The pool that a target names; the default one for a target that is not known: its worker says so in the orders. */
  poolOf: (target: string) => Promise<string>;
}

export function createProducer({ clock, poolOf, ...connection }: ProducerOptions): Producer {
  const queues = openQueues(connection);

  async function wakeTarget(target: string, delayMs = 0): Promise<void> {
    const data: TargetJob = { target };
    const queue = queues.of(deploymentQueue(await poolOf(target)));
    if (delayMs > 0) {
      // A job of its own kind: while one waits its time, deployments that are due at once must not be held up by it.
      // Without a time to live the key goes with its job: a wake that came early never hides a later one.
      const deduplication = { id: `${target}.wake`, replace: true };
      await queue.add('wake', data, {
        delay: delayMs,
        deduplication,
      });
    } else {
      // At most one active and one waiting job per target and pool: all that is due goes into one commit.
      await queue.add('deploy', data, {
        deduplication: { id: target, keepLastIfActive: true },
      });
    }
  }

  /** At most one active and one waiting job per rollout: each looks at all of its parts. */
  async function wakeRollout(order: string): Promise<void> {
    const data: RolloutJob = { order };
    await queues.of(rolloutQueue).add('rollout', data, { deduplication: { id: order, keepLastIfActive: true } });
  }

  async function addStageJob(order: Order, stage: 'validation' | 'issuance'): Promise<void> {
    const data: StageJob = { order: order.id };
    const delay = Math.max(0, (order.nextAttemptAt ?? 0) - clock.now());
    await queues.of(stage).add(stage, data, {
      jobId: jobId(order.id, stage, order.epoch),
      attempts: bullmqAttempts,
      backoff: { type: 'custom' },
      stackTraceLimit: 1,
      ...(delay > 0 ? { delay } : {}),
    });
  }

  return {
    async enqueue(order) {
      const { deploy } = order.request;
      if (order.partOf !== null && isFinal(order)) await wakeRollout(order.partOf);
      if (isWindingDown(order)) await wakeRollout(order.id);
      if (order.status === 'cancelled' && order.stage !== 'deployment')
        await queues.of(order.stage).remove(jobId(order.id, order.stage, order.epoch));
      const stage = activeStage(order);
      if (stage === null) return;
      if (stage !== 'deployment') await addStageJob(order, stage);
      else if (isForOneTarget(deploy)) await wakeTarget(deploy.target);
      else await wakeRollout(order.id);
    },

    async ensureJob(order) {
      const stage = activeStage(order);
      if (isWindingDown(order)) await wakeRollout(order.id);
      if (stage === null) return false;
      if (stage !== 'deployment') {
        const job = await queues.of(stage).getJob(jobId(order.id, stage, order.epoch));
        const state = (await job?.getState()) ?? 'unknown';
        if (state !== 'unknown' && state !== 'completed' && state !== 'failed') return false;
        // An id whose job has ended is taken: `add` would answer a job and store nothing.
        await job?.remove();
      }
      await this.enqueue(order);
      // A rollout is only looked at again: it waits for its parts.
      return order.request.deploy.mode !== 'rollout' || stage !== 'deployment';
    },

    wakeTarget,
    async lookForDrift(target, pool) {
      const data: TargetJob = { target };
      const options = { jobId: `drift.${target}`, removeOnComplete: true, removeOnFail: true };
      await queues.of(driftQueue(pool)).add('look', data, options);
    },
    poolOf,
    counts: (queue) => queues.of(queue).getJobCounts('waiting', 'active', 'delayed', 'completed', 'failed'),
    isServed: (queue) => isServed(connection, queue),
    async oldestWaiting(queue) {
      const [job] = await queues.of(queue).getJobs(['waiting'], 0, 0, true);
      return job?.timestamp ?? null;
    },
    close: queues.close,
  };
}
