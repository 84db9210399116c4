import type { Clock } from '#libs/clock';
import type { Logger } from '#libs/logging';
import type { Producer } from '#libs/queues/producer';
import type { OrderStore } from '#libs/store/orders';

export interface ReconcilerDeps {
  orders: Pick<OrderStore, 'overdue' | 'get' | 'lookAgain'>;
  producer: Pick<Producer, 'ensureJob'>;
  clock: Clock;
  log: Logger;
}

/** Orders looked at in one go. */
const batch = 500;
/** When an order whose job is there is looked at again. */
const againMs = 15_000;

/**
 * One look at the outbox: every unfinished order that ought to have moved by now gets its job if it has none. Closes the windows that a
 * crash between two writes leaves. Answers how many jobs were added; running it twice at once does no harm.
 */
export async function reconcile({ orders, producer, clock, log }: ReconcilerDeps): Promise<number> {
  let added = 0;
  for (const id of await orders.overdue(clock.now(), batch)) {
    const order = await orders.get(id);
    if (order === null) continue;
    if (await producer.ensureJob(order)) {
      added += 1;
      log.info({ order: id, status: order.status, epoch: order.epoch }, 'the order had no job: enqueued again');
    }
    await orders.lookAgain(id, clock.now() + againMs);
  }
  return added;
}
