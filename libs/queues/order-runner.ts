import type { Clock } from '../clock.ts';
import { asCertlineError, CertlineError } from '../errors.ts';
import type { Logger } from '../logging.ts';
import { type Metrics, observeAttempt } from '../metrics/metrics.ts';
import { activeStage, isComplete, isInHand, type Order, type StageName } from '../model/order.ts';
import { cancelled, reached, resumed } from '../model/transitions.ts';
import type { OrderEventInput } from '../store/order-events.ts';
import type { OrderStore } from '../store/orders.ts';
import type { Command } from '../store/redis.ts';
import { passes, redisTrouble } from '../store/redis-trouble.ts';
import { StaleOrder, type Takes } from './handler.ts';
import { afterFailure, type Outcome } from './outcome.ts';
import type { Producer } from './producer.ts';
import { poisonLimit, stages } from './stages.ts';

export interface RunnerOptions {
  orders: OrderStore;
  producer: Producer;
  metrics: Metrics;
  clock: Clock;
  log: Logger;
  /** Notes at an account or credential why all of its orders are held, which only a person can mend. */
  park: (on: string, error: CertlineError) => Promise<void>;
  isParked: (on: string) => Promise<boolean>;
  /** In [0, 1): the jitter of delays. */
  random: () => number;
  /** Factor on the delays between attempts. */
  retryDelayScale: number;
}

/** An order that a stage has begun to work on, as it stands in the store. */
export interface Run<S extends StageName> {
  stage: S;
  order: Takes<S>;
  startedAt: number;
  /** Since when the target may have the certificate all the same, after an earlier attempt; null when it has not. */
  inDoubtSince: number | null;
  log: Logger;
  checkpoint(changes: Partial<Takes<S>>, progress?: string, also?: readonly Command[]): Promise<Takes<S>>;
}

export type BeginResult<S extends StageName> =
  | { kind: 'run'; run: Run<S> }
  /** Nothing to do: the order is elsewhere, held, ended or gone. */
  | { kind: 'stale' }
  | { kind: 'early'; at: number }
  | { kind: 'failed'; error: CertlineError };

/** What is known of an attempt that failed besides its error. */
export interface Failing {
  /** In [0, 1): the same for those that are to come back together. */
  jitter?: number;
  /**
   * Whether its target may have the certificate all the same. The order stays in hand until an attempt succeeds: an attempt for other orders may
   * have found the certificate served, and left it.
   */
  inDoubt?: boolean;
}

/** The way of an order through one attempt of a stage, without the queue: load, compare-and-set, save, pass on, log, measure. */
export interface OrderRunner<S extends StageName> {
  /** First statement of every processor. `crashes` is how often a worker died on the job; `epoch` is the job's. */
  begin(orderId: string, job: { epoch?: number; crashes: number }): Promise<BeginResult<S>>;
  /** `also` is stored together with the order. */
  succeed(run: Run<S>, next: Order, also?: readonly Command[]): Promise<Order | null>;
  /** What became of the order; null when the run was stale. */
  fail(run: Run<S>, thrown: unknown, about?: Failing): Promise<Outcome | null>;
}

const eventOf: Record<Outcome['kind'], OrderEventInput['type']> = {
  retry: 'attempt_failed',
  wait: 'stage_waiting',
  restart: 'order_restarted',
  parked: 'order_parked',
  failed: 'order_failed',
};

/** How long an order waits when Redis did not do what its stage asked, ms. */
const redisAgainMs = 10_000;

/** A thrown thing as an error of ours. That Redis is away or full is nothing that an order has failed of. */
function errorOf(thrown: unknown, now: number): CertlineError {
  const trouble = redisTrouble(thrown);
  if (trouble === null || !passes(trouble)) return trouble ?? asCertlineError(thrown);
  return new CertlineError(trouble.code, trouble.message, {
    plan: { kind: 'wait', until: now + redisAgainMs },
    cause: thrown,
  });
}

/** Whether the stage has done nothing yet but wait. */
function waited({ error, nextAttemptAt, attempts }: Order, stage: StageName): boolean {
  return error !== null && nextAttemptAt !== null && attempts[stage] === 0;
}

const isSame = (one: Order['error'], other: Order['error']): boolean =>
  one !== null && one.code === other?.code && one.detail === other.detail;

export function createOrderRunner<S extends StageName>(stage: S, options: RunnerOptions): OrderRunner<S> {
  const { orders, producer, metrics, clock, random, retryDelayScale } = options;

  function measure(run: Run<S>, outcome: string, code: string | null): void {
    observeAttempt(metrics, stage, { outcome, code, seconds: (clock.now() - run.startedAt) / 1000 });
  }

  function startRun(begun: Takes<S>, startedAt: number, inDoubtSince: number | null): Run<S> {
    const attempt = begun.attempts[stage] + 1;
    const log = options.log.child({ order: begun.id, stage, epoch: begun.epoch, attempt });
    const run: Run<S> = {
      stage,
      order: begun,
      startedAt,
      inDoubtSince,
      log,
      async checkpoint(changes, progress, also) {
        const now = clock.now();
        const events: OrderEventInput[] =
          progress === undefined ? [] : [{ type: 'stage_progress', at: now, stage, detail: progress }];
        const saved = await orders.save(run.order, { ...run.order, ...changes, updatedAt: now }, events, also);
        if (saved === null) throw new StaleOrder();
        run.order = saved;
        return saved;
      },
    };
    return run;
  }

  /** Whether the rollout that an order is a part of goes on, and still with this order. */
  async function isWanted({ id, partOf }: Order): Promise<boolean> {
    if (partOf === null) return true;
    const whole = await orders.get(partOf);
    return whole !== null && whole.status !== 'cancelled' && whole.deployments.some(({ order }) => order === id);
  }

  /** Calls off what its rollout does not want any more, and tells the rollout. */
  async function callOff(order: Order): Promise<void> {
    const now = clock.now();
    const detail = 'its rollout was called off, or goes on with another order for this target';
    const event = { type: 'order_cancelled', at: now, stage, detail } as const;
    const saved = await orders.save<Order>(order, cancelled(order, now), [event]);
    if (saved !== null) await producer.enqueue(saved);
  }

  async function refuse(order: Order, error: CertlineError): Promise<BeginResult<S>> {
    const { order: next } = afterFailure(order, stage, error, { now: clock.now(), random: 0, scale: 1 });
    const event: OrderEventInput = {
      type: 'order_failed',
      at: clock.now(),
      stage,
      code: error.code,
      detail: error.message,
    };
    const saved = await orders.save(order, next, [event]);
    if (saved === null) return { kind: 'stale' };
    await producer.enqueue(saved);
    return { kind: 'failed', error };
  }

  return {
    async begin(orderId, { epoch, crashes }) {
      const order = await orders.get(orderId);
      if (order === null || activeStage(order) !== stage) return { kind: 'stale' };
      if (epoch !== undefined && order.epoch !== epoch) return { kind: 'stale' };
      const now = clock.now();
      // What may be on its target already is brought to its end, so that the order says what the target has.
      if (!isInHand(order) && !(await isWanted(order))) {
        await callOff(order);
        return { kind: 'stale' };
      }
      const dueAt = order.nextAttemptAt ?? order.stageSince;
      // A few milliseconds early is on time: timers and clocks of two machines differ.
      if (order.nextAttemptAt !== null && dueAt > now + 50) return { kind: 'early', at: dueAt };
      const permanent = { plan: { kind: 'permanent' } } as const;
      if (crashes > poisonLimit) {
        return refuse(
          order,
          new CertlineError('worker_crashed_repeatedly', `${crashes} workers died on it`, permanent),
        );
      }
      if (now > order.stageSince + stages[stage].deadline) {
        const last = order.error ? `; last error: ${order.error.code}: ${order.error.detail}` : '';
        return refuse(
          order,
          new CertlineError('deadline_passed', `${stage} did not succeed in time${last}`, permanent),
        );
      }
      const started: OrderEventInput = { type: 'stage_started', at: now, stage };
      const begun = await orders.save(
        order,
        { ...reached(order), nextAttemptAt: null, startedAt: now, updatedAt: now },
        // A look at what has been waited for is no news: an order that waits for days would have nothing else in its history.
        waited(order, stage) ? [] : [started],
      );
      if (begun === null) return { kind: 'stale' };
      metrics.stageWait.observe({ stage }, Math.max(0, now - dueAt) / 1000);
      // `activeStage` told that the status is the one this stage takes.
      return { kind: 'run', run: startRun(begun as Takes<S>, now, isInHand(order) ? order.startedAt : null) };
    },

    async succeed(run, next, also) {
      const now = clock.now();
      const events: OrderEventInput[] = [{ type: 'stage_completed', at: now, stage }];
      if (isComplete(next)) events.push({ type: 'order_completed', at: now });
      const saved = await orders.save(run.order, next, events, also);
      if (saved === null) {
        measure(run, 'stale', null);
        return null;
      }
      measure(run, 'completed', null);
      metrics.lastSuccess.set({ stage }, now / 1000);
      if (isComplete(saved) && saved.partOf === null)
        metrics.orderDuration.observe({ outcome: 'complete' }, (now - saved.createdAt) / 1000);
      run.log.info({ ms: now - run.startedAt }, `${stage} completed`);
      await producer.enqueue(saved);
      return saved;
    },

    async fail(run, thrown, { jitter = random(), inDoubt = false } = {}) {
      if (thrown instanceof StaleOrder) {
        measure(run, 'stale', null);
        run.log.info('another worker has the order');
        return null;
      }
      const error = errorOf(thrown, clock.now());
      const now = clock.now();
      const outcome = afterFailure(run.order, stage, error, { now, random: jitter, scale: retryDelayScale });
      const { kind } = outcome;
      const next =
        (inDoubt || run.inDoubtSince !== null) && outcome.order.status === 'issued'
          ? { ...outcome.order, startedAt: run.inDoubtSince ?? run.order.startedAt }
          : outcome.order;
      const nextAttempt = next.nextAttemptAt === null ? {} : { nextAttemptAt: next.nextAttemptAt };
      const event = { type: eventOf[kind], at: now, stage, code: error.code, detail: error.message, ...nextAttempt };
      // The account first: an order that is held while its account is not would wait for ever if this process died in between.
      if (kind === 'parked') await options.park(next.parkedOn ?? next.request.account, error);
      const saved = await orders.save(
        run.order,
        next,
        kind === 'wait' && isSame(run.order.error, next.error) ? [] : [event],
      );
      measure(run, saved === null ? 'stale' : kind, error.code);
      if (saved === null) return null;
      const { code, evidence } = error;
      const level = kind === 'failed' || kind === 'parked' || code === 'unexpected' ? 'warn' : 'info';
      run.log[level](
        { code, outcome: kind, evidence, ...(code === 'unexpected' ? { err: error.cause } : {}) },
        error.message,
      );
      if (kind === 'failed' && saved.partOf === null)
        metrics.orderDuration.observe({ outcome: 'failed' }, (now - saved.createdAt) / 1000);
      // When it failed, a rollout may have to know.
      if (kind === 'restart' || kind === 'failed') await producer.enqueue(saved);
      else if (saved.parkedOn !== null && !(await options.isParked(saved.parkedOn))) {
        // It was mended while the order was being parked, when nobody knew of the order yet.
        const again = await orders.save(saved, resumed(saved, now), [{ type: 'order_resumed', at: now }]);
        if (again !== null) await producer.enqueue(again);
      }
      // Its next attempt may be days away.
      else if (!isInHand(saved) && !(await isWanted(saved))) await callOff(saved);
      return { kind, order: saved };
    },
  };
}
