import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';
import { activeStage, isForOneTarget, type Order } from '#libs/model/order';
import { orderError } from '#libs/model/transitions';
import type { Producer } from '#libs/queues/producer';
import { deploymentLease, deploymentQueue, rolloutQueue } from '#libs/queues/stages';
import type { Leases } from '#libs/store/leases';
import type { OrderStore } from '#libs/store/orders';

export interface UnservedDeps {
  orders: Pick<OrderStore, 'save'>;
  producer: Pick<Producer, 'poolOf' | 'isServed'>;
  leases: Pick<Leases, 'isHeld'>;
  clock: Clock;
  log: Logger;
}

/** For how long an order that is due may lie there before somebody asks whether a worker comes, ms. */
const patienceMs = 60_000;
const stage = 'deployment';

/** Why no worker comes for the order; null when one does. */
async function reasonOf(order: Order, { producer, leases }: UnservedDeps): Promise<string | null> {
  const { deploy } = order.request;
  if (!isForOneTarget(deploy))
    return (await producer.isServed(rolloutQueue)) ? null : 'no deployment worker runs (any of them begins rollouts)';
  const pool = await producer.poolOf(deploy.target);
  if (await producer.isServed(deploymentQueue(pool))) return null;
  // A target that was moved to another pool meanwhile: the worker that has it must not lose the order.
  if (await leases.isHeld(deploymentLease(deploy.target))) return null;
  return `no deployment worker serves pool ${pool}, the one of ${deploy.target} (DEPLOYMENT_POOLS)`;
}

/**
 * Says in an order that is overdue for deployment that no worker takes it, once. It stays due: the worker that comes takes it, and the
 * error goes with that. `order` must have been read before: a worker that was faster is then not disturbed.
 */
export async function tellUnserved(order: Order, deps: UnservedDeps): Promise<void> {
  const { orders, clock, log } = deps;
  const now = clock.now();
  if (activeStage(order) !== stage || now - (order.nextAttemptAt ?? order.updatedAt) < patienceMs) return;
  const detail = await reasonOf(order, deps);
  if (detail === null || (order.error?.code === 'pool_unserved' && order.error.detail === detail)) return;
  const error = orderError(new CertlineError('pool_unserved', detail), stage, now);
  const { code } = error;
  const waiting = { ...order, error, updatedAt: now };
  if ((await orders.save(order, waiting, [{ type: 'stage_waiting', at: now, stage, code, detail }])) !== null)
    log.info({ order: order.id, code }, detail);
}
