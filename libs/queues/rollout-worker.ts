import { newId } from '../model/ids.ts';
import { type IssuedOrder, isComplete, isFinal, type Order, type Rollout } from '../model/order.ts';
import { nextOfRollout } from '../model/rollout.ts';
import { cancelled, partOfRollout } from '../model/transitions.ts';
import type { OrderEventInput } from '../store/order-events.ts';
import type { RolloutJob } from './producer.ts';
import type { WorkerSettings } from './stage-worker.ts';
import { rolloutQueue } from './stages.ts';
import { type RunningWorker, startWorker } from './worker.ts';

const concurrency = 10;
const stage = 'deployment';

/** What becomes of a rollout when one of its parts ended, or nobody has looked at it for a while. May run twice at any line. */
function createRollouts({ orders, producer, metrics, clock, log }: WorkerSettings) {
  async function partsOf({ deployments }: Order): Promise<Map<string, Order>> {
    const ids = deployments.flatMap(({ order }) => order ?? []);
    const parts = await Promise.all(ids.map(orders.get));
    return new Map(parts.flatMap((part) => (part === null ? [] : [[part.id, part]])));
  }

  /** Parts that have not begun to deploy are called off; one that has comes to its end. */
  async function callOff(whole: Order): Promise<void> {
    for (const part of (await partsOf(whole)).values()) {
      if (isFinal(part)) continue;
      const now = clock.now();
      await orders.save(part, cancelled(part, now), [{ type: 'order_cancelled', at: now, stage }]);
    }
  }

  function eventsOf(next: Order, progress: readonly string[], now: number): OrderEventInput[] {
    const events: OrderEventInput[] = progress.map((detail) => ({ type: 'stage_progress', at: now, stage, detail }));
    if (isComplete(next))
      events.push({ type: 'stage_completed', at: now, stage }, { type: 'order_completed', at: now });
    if (next.status === 'failed') {
      const { code, detail } = next.error;
      events.push({ type: 'order_failed', at: now, stage, code, detail });
    }
    return events;
  }

  /** Places what the rollout says has begun; that it says so is saved before, so that no target gets two orders. */
  async function placeMissing(
    whole: IssuedOrder,
    { waves }: Rollout,
    parts: ReadonlyMap<string, Order>,
  ): Promise<void> {
    const deploys = waves.flat();
    for (const [at, { order: id, status }] of whole.deployments.entries()) {
      const deploy = deploys[at];
      if (id === null || status !== 'under way' || parts.has(id) || deploy === undefined) continue;
      const { order: part } = await orders.place(partOfRollout(whole, deploy, id, clock.now()));
      await producer.enqueue(part);
    }
  }

  function tell(ended: Order): void {
    const seconds = (clock.now() - ended.createdAt) / 1000;
    metrics.orderDuration.observe({ outcome: isComplete(ended) ? 'complete' : 'failed' }, seconds);
    if (isComplete(ended)) log.info({ order: ended.id }, 'the rollout is complete');
    else log.warn({ order: ended.id, code: ended.error?.code }, `the rollout has stopped: ${ended.error?.detail}`);
  }

  return async (id: string): Promise<string> => {
    // Each round either ends or has been overtaken by another writer of the record.
    for (;;) {
      const whole = await orders.get(id);
      if (whole === null || whole.request.deploy.mode !== 'rollout') return 'none';
      if (whole.status === 'cancelled') {
        await callOff(whole);
        return 'called off';
      }
      if (whole.status !== 'issued') return whole.status;
      const parts = await partsOf(whole);
      const now = clock.now();
      const { order: next, progress } = nextOfRollout(whole, parts, now, () => newId('order', now));
      const saved = next === whole ? whole : await orders.save<Order>(whole, next, eventsOf(next, progress, now));
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
  return startWorker<RolloutJob>({ queue: rolloutQueue, concurrency }, settings, async (job, _token, _signal) =>
    look(job.data.order),
  );
}
