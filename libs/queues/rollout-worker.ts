import { newId } from '../model/ids.ts';
import {
  type CancelledOrder,
  type FailedOrder,
  type IssuedOrder,
  isComplete,
  isFinal,
  isInHand,
  type Order,
  type Rollout,
} from '../model/order.ts';
import { afterRollout, nextOfRollout, type Parts } from '../model/rollout.ts';
import { cancelled, partOfRollout, reached } from '../model/transitions.ts';
import type { OrderEventInput } from '../store/order-events.ts';
import type { RolloutJob } from './producer.ts';
import type { WorkerSettings } from './stage-worker.ts';
import { rolloutQueue } from './stages.ts';
import { type RunningWorker, startWorker } from './worker.ts';

const concurrency = 10;
const stage = 'deployment';

/** What becomes of a rollout when one of its parts ended, or nobody has looked at it for a while. May run twice at any line. */
function createRollouts({ orders, producer, metrics, clock, log }: WorkerSettings) {
  /** Calls off what no worker has begun with: that comes to its end, so that its order says what the target has. */
  async function calledOff(part: Order): Promise<Order> {
    for (let current: Order | null = part; current !== null; current = await orders.get(part.id)) {
      if (isFinal(current) || isInHand(current)) return current;
      const now = clock.now();
      const detail = 'its rollout was called off';
      const event = { type: 'order_cancelled', at: now, stage, detail } as const;
      const saved = await orders.save<Order>(current, cancelled(current, now), [event]);
      if (saved !== null) return saved;
    }
    return part;
  }

  function eventsOf(progress: readonly string[], now: number): OrderEventInput[] {
    return progress.map((detail) => ({ type: 'stage_progress', at: now, stage, detail }));
  }

  function endOf(next: Order, now: number): OrderEventInput[] {
    if (isComplete(next))
      return [
        { type: 'stage_completed', at: now, stage },
        { type: 'order_completed', at: now },
      ];
    if (next.status !== 'failed') return [];
    const { code, detail } = next.error;
    return [{ type: 'order_failed', at: now, stage, code, detail }];
  }

  /** Places what the rollout says has begun; that it says so is saved before, so that no target gets two orders. */
  async function placeMissing(whole: IssuedOrder, { waves }: Rollout, parts: Parts): Promise<void> {
    const deploys = waves.flat();
    const placing = whole.deployments.map(async ({ order: id, status }, at) => {
      const deploy = deploys[at];
      if (id === null || status !== 'under way' || parts.has(id) || deploy === undefined) return;
      const { order: part } = await orders.place(partOfRollout(whole, deploy, id, clock.now()));
      await producer.enqueue(part);
    });
    await Promise.all(placing);
  }

  function tell(ended: Order): void {
    const seconds = (clock.now() - ended.createdAt) / 1000;
    metrics.orderDuration.observe({ outcome: isComplete(ended) ? 'complete' : 'failed' }, seconds);
    if (isComplete(ended)) log.info({ order: ended.id }, 'the rollout is complete');
    else log.warn({ order: ended.id, code: ended.error?.code }, `the rollout has stopped: ${ended.error?.detail}`);
  }

  /** Takes over what became of the parts that outlived the rollout; false when another writer was faster. */
  async function settle(whole: FailedOrder | CancelledOrder): Promise<boolean> {
    const parts = await orders.openParts(whole);
    if (whole.status === 'cancelled') for (const part of parts.values()) parts.set(part.id, await calledOff(part));
    const now = clock.now();
    const { order: next, progress } = afterRollout(whole, parts, now);
    return next === whole || (await orders.save<Order>(whole, next, eventsOf(progress, now))) !== null;
  }

  return async (id: string): Promise<string> => {
    // Each round either ends or has been overtaken by another writer of the record.
    for (;;) {
      const whole = await orders.get(id);
      if (whole === null || whole.request.deploy.mode !== 'rollout') return 'none';
      if (whole.status === 'cancelled' || whole.status === 'failed') {
        if (await settle(whole)) return whole.status;
        continue;
      }
      if (whole.status !== 'issued') return whole.status;
      const parts = await orders.openParts(whole);
      const now = clock.now();
      const { order: next, progress } = nextOfRollout(reached(whole), parts, now, () => newId('order', now));
      const events = [...eventsOf(progress, now), ...endOf(next, now)];
      const saved = next === whole ? whole : await orders.save<Order>(whole, next, events);
      if (saved === null) continue;
      if (isFinal(saved)) tell(saved);
      if (saved.status !== 'issued') return saved.status;
      await placeMissing(saved, whole.request.deploy, parts);
      return 'under way';
    }
  };
}

/** Passes rollouts on from wave to wave. */
export function startRolloutWorker(settings: WorkerSettings): RunningWorker {
  const look = createRollouts(settings);
  const { log } = settings;
  return startWorker<RolloutJob>({ queue: rolloutQueue, concurrency }, settings, async (job, _token, _signal) => {
    const { order } = job.data;
    try {
      return await look(order);
    } catch (error) {
      // Nothing is lost: the reconciler has it looked at again.
      log.warn({ err: error, order }, 'the rollout could not be looked at');
      throw error;
    }
  });
}
