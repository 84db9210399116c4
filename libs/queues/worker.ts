import { type Job, Worker } from 'bullmq';
import type { Logger } from '../logging.ts';
import type { RedisClient } from '../store/redis.ts';
import { connectionTrouble, passes } from '../store/redis-trouble.ts';
import { type Pulse, startHeartbeat } from './heartbeat.ts';
import { keepJobs } from './queues.ts';

export interface WorkerConnection {
  redis: RedisClient;
  prefix: string;
  log: Logger;
  /** How long a worker may be silent before others take its jobs, ms. */
  lockDuration: number;
  /** How often that is looked for, ms. */
  stalledInterval: number;
  /** How its workers say that they are there; as usual unless given. */
  pulse?: Pulse;
}

/** A running worker. */
export interface RunningWorker {
  /** Takes no more jobs; lets those under way finish for `graceMs`, then hands them back to the queue. */
  stop(graceMs: number): Promise<void>;
}

/** The delay of a failed attempt, told to BullMQ, which asks `backoffStrategy` for it. */
export class AttemptFailed extends Error {
  override readonly name = 'AttemptFailed';
  readonly delay: number;
  constructor(message: string, delay: number) {
    super(message);
    this.delay = delay;
  }
}

/** What is done with a job. `signal` is aborted when the process stops: the job is then to be moved back with `token`. */
export type Processor<T> = (job: Job<T>, token: string, signal: AbortSignal) => Promise<string>;

/** Works on the jobs of a queue, `concurrency` at a time. */
export function startWorker<T>(
  { queue, concurrency }: { queue: string; concurrency: number },
  { redis, prefix, lockDuration, stalledInterval, log, pulse }: WorkerConnection,
  process: Processor<T>,
): RunningWorker {
  const never = new AbortController().signal;
  // BullMQ counts the processor's parameters: without a third one, or with default values, there is no signal to cancel by.
  const processor = (job: Job<T>, token: string | undefined, signal: AbortSignal | undefined): Promise<string> =>
    process(job, token ?? '', signal ?? never);
  const worker = new Worker<T, string>(queue, processor, {
    connection: redis,
    prefix,
    concurrency,
    lockDuration,
    stalledInterval,
    // A job is never failed for the workers that died on it: the order's own poison rule decides.
    maxStalledCount: 1_000,
    ...keepJobs,
    settings: { backoffStrategy: (_attempts, _type, error) => (error instanceof AttemptFailed ? error.delay : 1_000) },
  });
  worker.on('error', (error) => {
    // Of Redis being away the process tells, once for all of its workers.
    if (!passes(connectionTrouble(error))) log.warn({ err: error, queue }, 'the worker met an error of Redis');
  });
  worker.on('stalled', (job) => log.warn({ job, queue }, 'a worker fell silent: its job is taken over'));
  const stopHeartbeat = startHeartbeat({ redis, prefix }, queue, pulse);
  return {
    async stop(graceMs) {
      stopHeartbeat();
      const hurry = setTimeout(() => worker.cancelAllJobs('the process stops'), graceMs);
      await worker.close();
      clearTimeout(hurry);
    },
  };
}
