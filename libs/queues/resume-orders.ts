import type { Clock } from '../clock.ts';
import { resumed } from '../model/transitions.ts';
import type { OrderStore } from '../store/orders.ts';
import type { Producer } from './producer.ts';

export interface ResumeDeps {
  orders: Pick<OrderStore, 'parked' | 'get' | 'save'>;
  producer: Pick<Producer, 'enqueue'>;
  clock: Clock;
}

/** Lets the orders go on that waited for an account or a credential which is mended. Answers how many did. */
export async function resumeOrders(on: string, { orders, producer, clock }: ResumeDeps): Promise<number> {
  let count = 0;
  for (const id of await orders.parked(on)) {
    const order = await orders.get(id);
    // Somebody else may have let it go on meanwhile.
    if (order?.parkedOn !== on) continue;
    const now = clock.now();
    const saved = await orders.save(order, resumed(order, now), [{ type: 'order_resumed', at: now }]);
    if (saved === null) continue;
    count += 1;
    await producer.enqueue(saved);
  }
  return count;
}
