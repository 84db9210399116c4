import type { Clock } from '#libs/clock';
import type { Logger } from '#libs/logging';
import type { Producer } from '#libs/queues/producer';
import { sideBySide } from '#libs/side-by-side';
import type { OrderStore } from '#libs/store/orders';
import { tellUnserved, type UnservedDeps } from './unserved-orders.ts';

export interface ReconcilerDeps extends UnservedDeps {
  orders: Pick<OrderStore, 'overdue' | 'get' | 'lookAgain' | 'ensureDue' | 'save'>;
  producer: Pick<Producer, 'ensureJob' | 'poolOf' | 'isServed'>;
  clock: Clock;
  log: Logger;
}

/** Orders looked at in one go. */
const batch = 500;
/** Of these, orders looked at side by side: each takes several commands, and Redis may be far away. */
const together = 20;
/** When an order whose job is there is looked at again. */
const againMs = 15_000;

/** Gives the order its job if it ought to have one and has none; says so when no worker takes it. */
async function mend(id: string, deps: ReconcilerDeps): Promise<boolean> {
  const { orders, producer, log } = deps;
  try {
    const order = await orders.get(id);
    if (order === null) return false;
    await orders.ensureDue(order);
    const added = await producer.ensureJob(order);
    if (added)
      log.info({ order: id, status: order.status, epoch: order.epoch }, 'the order had no job: enqueued again');
    await tellUnserved(order, deps);
    return added;
  } catch (error) {
    // One that cannot be read, or whose job another reconciler has just replaced, must not hold up the others.
    log.warn({ err: error, order: id }, 'the order could not be looked at');
    return false;
  }
}

/**
 * One look at the outbox: every unfinished order that ought to have moved by now gets its job if it has none. Closes the windows that a
 * crash between two writes leaves. Answers how many jobs were added; running it twice at once does no harm.
 */
export async function reconcile(deps: ReconcilerDeps): Promise<number> {
  const { orders, clock } = deps;
  let added = 0;
  await sideBySide(await orders.overdue(clock.now(), batch), together, async (id) => {
    if (await mend(id, deps)) added += 1;
    await orders.lookAgain(id, clock.now() + againMs);
  });
  return added;
}
