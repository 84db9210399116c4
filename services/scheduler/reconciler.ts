import type { Clock } from '#libs/clock';
import type { Logger } from '#libs/logging';
import type { Producer } from '#libs/queues/producer';
import type { OrderStore } from '#libs/store/orders';

export interface ReconcilerDeps {
  orders: Pick<OrderStore, 'overdue' | 'get' | 'lookAgain' | 'ensureDue'>;
  producer: Pick<Producer, 'ensureJob'>;
  clock: Clock;
  log: Logger;
}

/** Orders looked at in one go. */
const batch = 500;
/** When an order whose job is there is looked at again. */
const againMs = 15_000;

/** Gives the order its job if it ought to have one and has none. */
async function mend(id: string, { orders, producer, log }: ReconcilerDeps): Promise<boolean> {
  try {
    const order = await orders.get(id);
    if (order === null) return false;
    await orders.ensureDue(order);
    if (!(await producer.ensureJob(order))) return false;
    log.info({ order: id, status: order.status, epoch: order.epoch }, 'the order had no job: enqueued again');
    return true;
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
  for (const id of await orders.overdue(clock.now(), batch)) {
    if (await mend(id, deps)) added += 1;
    await orders.lookAgain(id, clock.now() + againMs);
  }
  return added;
}
