import type { OrderStore } from '#libs/store/orders';

/**
 * Makes orders due that wait for a maintenance window of a target, after its windows were changed: whether they wait on is found out by
 * the deployment. The target is still to be woken.
 */
export async function releaseWaiting(
  orders: Pick<OrderStore, 'unfinishedAt' | 'get' | 'save'>,
  target: string,
  now: number,
): Promise<void> {
  for (const id of await orders.unfinishedAt(target)) {
    const order = await orders.get(id);
    if (order?.error?.code !== 'outside_window' || order.nextAttemptAt === null) continue;
    // Somebody else who was faster works on it, or has ended it.
    await orders.save(order, { ...order, nextAttemptAt: null, updatedAt: now }, []);
  }
}
