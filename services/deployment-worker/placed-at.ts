import type { Certificate } from '#libs/model/certificate';
import { isForOneTarget, type Order } from '#libs/model/order';
import type { OrderStore } from '#libs/store/orders';

/**
 * When somebody asked for what an order does, ms since the epoch: for a part of a rollout, whose wave may begin much later, when that was.
 * Nobody asked for the certificate of a repair: it was to be there when the certificate was all that there was.
 */
export async function placedAt(
  { createdAt, partOf, request: { deploy } }: Pick<Order, 'createdAt' | 'partOf' | 'request'>,
  certificate: Pick<Certificate, 'createdAt'>,
  orders: Pick<OrderStore, 'get'>,
): Promise<number> {
  if (isForOneTarget(deploy) && deploy.only !== undefined) return certificate.createdAt;
  const whole = partOf === null ? null : await orders.get(partOf);
  return whole?.createdAt ?? createdAt;
}
