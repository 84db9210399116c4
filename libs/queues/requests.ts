import { randomUUID } from 'node:crypto';
import { WaitingError } from 'bullmq';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { asCertlineError, CertlineError } from '../errors.ts';
import { errorCodeSchema } from '../model/order.ts';
import { isServed } from './heartbeat.ts';
import { openQueues, type QueueConnection } from './queues.ts';
import { type RunningWorker, startWorker, type WorkerConnection } from './worker.ts';

/** Something that a worker finds out for another process, at once or not at all. */
export interface Request {
  queue: string;
  question: string;
  /** What it is about. No secrets: it lies in Redis. */
  about: object;
  /** How long the answer is waited for, ms. */
  limitMs: number;
  /** What is thrown when no worker serves the queue, when none takes the request, and when one that did gives no answer in time. */
  failures: Record<'unserved' | 'untaken' | 'unanswered', () => CertlineError>;
}

export interface Requests {
  /** The answer of a worker, as JSON carries it; throws the error that the worker's answer is, or one of `failures`. */
  ask(request: Request, signal: AbortSignal): Promise<unknown>;
  close(): Promise<void>;
}

export interface RequestsOptions extends QueueConnection {
  clock: Clock;
}

type RequestJob = { id: string; about: unknown };

/** An answer is asked for more and more seldom, between these, ms: a command that waits for it would need a connection of its own. */
const askAgain = { first: 20, cap: 250 };
/** How often a worker looks whether its answer is still wanted, ms. */
const wantedMs = 1_000;

/** A request lives in Redis as long as somebody waits for its answer; whether it is too old is told by one clock, that of Redis. */
const keysOf = (prefix: string, id: string) => ({
  request: `${prefix}:request:${id}`,
  answer: `${prefix}:request:${id}:answer`,
});

const planSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('permanent') }),
  z.object({
    kind: z.literal('retryable'),
    notBefore: z.number().exactOptional(),
    attempts: z.number().exactOptional(),
  }),
  z.object({ kind: z.literal('wait'), until: z.number(), exact: z.literal(true).exactOptional() }),
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

/** What a worker answered, or its error. */
function opened(text: string): unknown {
  const answer = answerSchema.parse(JSON.parse(text));
  if (!('error' in answer)) return answer.value;
  const { code, detail, ...options } = answer.error;
  throw new CertlineError(code, detail, options);
}

/** Asks workers, through Redis. */
export function createRequests(options: RequestsOptions): Requests {
  const { redis, prefix, clock } = options;
  const queues = openQueues(options);
  return {
    async ask({ queue: name, question, about, limitMs, failures }, signal) {
      signal.throwIfAborted();
      const id = randomUUID();
      const keys = keysOf(prefix, id);
      if (!(await isServed(options, name))) throw failures.unserved();
      const queue = queues.of(name);
      const job: RequestJob = { id, about };
      const until = clock.now() + limitMs;
      let taken = false;
      try {
        await redis.set(keys.request, 'asked', 'PX', limitMs);
        await queue.add(question, job, { jobId: id, removeOnComplete: true, removeOnFail: true });
        for (let pause = askAgain.first; clock.now() < until; pause = Math.min(pause * 2, askAgain.cap)) {
          await clock.sleep(pause, signal);
          const [answer, state] = await redis.mget(keys.answer, keys.request);
          if (answer) return opened(answer);
          taken ||= state === 'taken';
        }
      } finally {
        // Best effort: the keys end by themselves, and a worker drops a job whose request is gone.
        await Promise.all([redis.del(keys.request, keys.answer), queue.remove(id)]).catch(options.onError);
      }
      throw taken ? failures.unanswered() : failures.untaken();
    },
    close: queues.close,
  };
}

/** Answers a question. `signal` is aborted when nobody waits for the answer any more. */
export type Answerer = (question: string, about: unknown, signal: AbortSignal) => Promise<unknown>;

/** Answers the requests of a queue, some at a time. What an answer says can be long, and is in no log. */
export function startRequestWorker(
  { queue, concurrency, answer: answerTo }: { queue: string; concurrency: number; answer: Answerer },
  settings: WorkerConnection,
): RunningWorker {
  const { redis, prefix, log } = settings;
  return startWorker<RequestJob>({ queue, concurrency }, settings, async (job, token, signal) => {
    const { id, about } = job.data;
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
      const value = await answerTo(job.name, about, AbortSignal.any([signal, unwanted.signal]));
      // JSON has no undefined: an answer without a value would be no answer.
      answer = { value: value ?? null };
    } catch (thrown) {
      if (signal.aborted) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      if (unwanted.signal.aborted) return 'dropped';
      answer = answerOf(thrown);
      const { code, message } = asCertlineError(thrown);
      log.info({ question: job.name, about, code, ...(code === 'unexpected' ? { err: thrown } : {}) }, message);
    } finally {
      clearInterval(looking);
    }
    // As long as it is wanted at the most: an answer that came too late for its asker is gone soon.
    const life = await redis.pttl(keys.request);
    if (life > 0) await redis.set(keys.answer, JSON.stringify(answer), 'PX', life);
    return 'answered';
  });
}
