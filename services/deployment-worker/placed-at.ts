import type { Order } from '#libs/model/order';
import type { OrderStore } from '#libs/store/orders';

/** When somebody asked for what an order does, ms since the epoch: for a part of a rollout, whose wave may begin much later, when that was. */
export async function placedAt(
  { createdAt, partOf }: Pick<Order, 'createdAt' | 'partOf'>,
  orders: Pick<OrderStore, 'get'>,
): Promise<number> {
  const whole = partOf === null ? null : await orders.get(partOf);
  return whole?.createdAt ?? createdAt;
}
