import { randomUUID } from 'node:crypto';
import { WaitingError } from 'bullmq';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { asCertlineError, CertlineError } from '../errors.ts';
import type { HostState } from '../iis/iis-host.ts';
import { type DriftReport, driftReportSchema } from '../model/drift.ts';
import { errorCodeSchema } from '../model/order.ts';
import type { Target } from '../model/target.ts';
import type { TestStep } from '../targets/certificate-target.ts';
import { isServed } from './heartbeat.ts';
import { openQueues, type QueueConnection } from './queues.ts';
import { hostRequestQueue } from './stages.ts';
import { type RunningWorker, startWorker, type WorkerConnection } from './worker.ts';

/** What can be asked of a host, and what is answered. */
interface Answers {
  read: HostState;
  test: TestStep[];
  drift: DriftReport;
}
export type HostQuestion = keyof Answers;
const questions: readonly HostQuestion[] = ['read', 'test', 'drift'];

/** Hosts that this process does not open itself: a deployment worker of their pool does it for it. */
export interface HostRequests {
  /**
   * The host as `IisHost.read` has it. Throws what that throws; `pool_unserved` at once when the pool has no worker, `target_unreachable`
   * when none takes the request.
   */
  read(target: Target, signal: AbortSignal): Promise<HostState>;
  /** What works, as the test of the target has it. Throws as `read` does. */
  test(target: Target, signal: AbortSignal): Promise<TestStep[]>;
  /** Whether the target is as it should be now: the report is kept, too. Throws as `read` does, and `deployment_under_way`. */
  drift(target: Target, signal: AbortSignal): Promise<DriftReport>;
  close(): Promise<void>;
}

export interface HostRequestsOptions extends QueueConnection {
  clock: Clock;
  /** How long an answer is waited for, ms. */
  limitMs?: number;
}

type HostRequestJob = { id: string; target: string };

const standardLimitMs = 30_000;
/** An answer is asked for more and more seldom, between these, ms: a command that waits for it would need a connection of its own. */
const askAgain = { first: 20, cap: 250 };
/** How often a worker looks whether its answer is still wanted, ms. */
const wantedMs = 1_000;
const concurrency = 10;

/** A request lives in Redis as long as somebody waits for its answer; whether it is too old is told by one clock, that of Redis. */
const keysOf = (prefix: string, id: string) => ({
  request: `${prefix}:host-request:${id}`,
  answer: `${prefix}:host-request:${id}:answer`,
});

const planSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('permanent') }),
  z.object({
    kind: z.literal('retryable'),
    notBefore: z.number().exactOptional(),
    attempts: z.number().exactOptional(),
  }),
  z.object({ kind: z.literal('wait'), until: z.number() }),
  z.object({
    kind: z.literal('restart'),
    notBefore: z.number().exactOptional(),
    attempts: z.number().exactOptional(),
    free: z.literal(true).exactOptional(),
  }),
  z.object({ kind: z.literal('park'), on: z.string().exactOptional() }),
]);

const answerSchema = z.union([
  z.object({
    error: z.object({
      code: errorCodeSchema,
      detail: z.string(),
      plan: planSchema,
      evidence: z.record(z.string(), z.unknown()).exactOptional(),
    }),
  }),
  z.object({ value: z.unknown() }),
]);

function answerOf(thrown: unknown): z.input<typeof answerSchema> {
  const { code, message: detail, plan, evidence } = asCertlineError(thrown);
  return { error: { code, detail, plan, ...(evidence === undefined ? {} : { evidence }) } };
}

/** What a worker answered, or its error. The value is what the worker's host gave, checked there. */
function opened(text: string): unknown {
  const answer = answerSchema.parse(JSON.parse(text));
  if (!('error' in answer)) return answer.value;
  const { code, detail, ...options } = answer.error;
  throw new CertlineError(code, detail, options);
}

/** Asks deployment workers, through Redis. */
export function createHostRequests(options: HostRequestsOptions): HostRequests {
  const { redis, prefix, clock, limitMs = standardLimitMs } = options;
  const queues = openQueues(options);

  async function ask<Q extends HostQuestion>(question: Q, target: Target, signal: AbortSignal): Promise<Answers[Q]> {
    signal.throwIfAborted();
    const id = randomUUID();
    const keys = keysOf(prefix, id);
    const name = hostRequestQueue(target.pool);
    if (!(await isServed(options, name)))
      throw new CertlineError('pool_unserved', `no deployment worker serves pool ${target.pool} (DEPLOYMENT_POOLS)`);
    const queue = queues.of(name);
    const job: HostRequestJob = { id, target: target.id };
    const until = clock.now() + limitMs;
    let taken = false;
    try {
      await redis.set(keys.request, 'asked', 'PX', limitMs);
      await queue.add(question, job, { jobId: id, removeOnComplete: true, removeOnFail: true });
      for (let pause = askAgain.first; clock.now() < until; pause = Math.min(pause * 2, askAgain.cap)) {
        await clock.sleep(pause, signal);
        const [answer, state] = await redis.mget(keys.answer, keys.request);
        if (answer) return opened(answer) as Answers[Q];
        taken ||= state === 'taken';
      }
    } finally {
      // Best effort: the keys end by themselves, and a worker drops a job whose request is gone.
      await Promise.all([redis.del(keys.request, keys.answer), queue.remove(id)]).catch(options.onError);
    }
    throw taken
      ? new CertlineError('target_timeout', `${target.name} did not answer in ${limitMs / 1000} s`)
      : new CertlineError('target_unreachable', `no deployment worker of pool ${target.pool} answers`);
  }

  return {
    read: (target, signal) => ask('read', target, signal),
    test: (target, signal) => ask('test', target, signal),
    async drift(target, signal) {
      const report = driftReportSchema.safeParse(await ask('drift', target, signal));
      if (report.success) return report.data;
      throw new CertlineError('target_unreachable', `a worker of pool ${target.pool} is of an older version`);
    },
    close: queues.close,
  };
}

/** Asks the host of a target. */
export type HostAsker = (question: HostQuestion, target: string, signal: AbortSignal) => Promise<Answers[HostQuestion]>;

/** Answers the requests to the hosts of a pool. What a host says of itself can be long, and is in no log. */
export function startHostRequestWorker(askHost: HostAsker, settings: WorkerConnection, pool: string): RunningWorker {
  const { redis, prefix, log } = settings;
  const queue = hostRequestQueue(pool);

  return startWorker<HostRequestJob>({ queue, concurrency }, settings, async (job, token, signal) => {
    const { id, target } = job.data;
    const keys = keysOf(prefix, id);
    if ((await redis.set(keys.request, 'taken', 'KEEPTTL', 'XX')) === null) return 'dropped';
    const unwanted = new AbortController();
    const looking = setInterval(() => {
      redis.exists(keys.request).then(
        (count) => count === 0 && unwanted.abort(new Error('nobody waits for the answer any more')),
        () => {},
      );
    }, wantedMs);
    let answer: z.input<typeof answerSchema>;
    try {
      const question = questions.find((one) => one === job.name) ?? 'read';
      answer = { value: await askHost(question, target, AbortSignal.any([signal, unwanted.signal])) };
    } catch (thrown) {
      if (signal.aborted) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      if (unwanted.signal.aborted) return 'dropped';
      answer = answerOf(thrown);
      const { code, message } = asCertlineError(thrown);
      log.info({ target, code, ...(code === 'unexpected' ? { err: thrown } : {}) }, message);
    } finally {
      clearInterval(looking);
    }
    // As long as it is wanted at the most: an answer that came too late for its asker is gone soon.
    const life = await redis.pttl(keys.request);
    if (life > 0) await redis.set(keys.answer, JSON.stringify(answer), 'PX', life);
    return 'answered';
  });
}
