import type { Clock } from '#libs/clock';
import { isFinal } from '#libs/model/order';
import { resumed } from '#libs/model/transitions';
import type { Producer } from '#libs/queues/producer';
import type { OrderStore } from '#libs/store/orders';

export interface ResumeDeps {
  orders: Pick<OrderStore, 'parked' | 'get' | 'save'>;
  producer: Pick<Producer, 'enqueue'>;
  clock: Clock;
}

/** Lets the orders go on that waited for an account or a credential which is mended. */
export async function resumeOrders(on: string, { orders, producer, clock }: ResumeDeps): Promise<void> {
  for (const id of await orders.parked(on)) {
    const order = await orders.get(id);
    if (order === null || isFinal(order)) continue;
    const now = clock.now();
    const saved = await orders.save(order, resumed(order, now), [{ type: 'order_resumed', at: now }]);
    if (saved) await producer.enqueue(saved);
  }
}
