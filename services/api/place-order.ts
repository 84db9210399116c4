import { CertlineError, type ErrorCode } from '#libs/errors';
import type { Logger } from '#libs/logging';
import type { ApiKey } from '#libs/model/api-key';
import type { Order } from '#libs/model/order';
import type { Producer } from '#libs/queues/producer';
import type { Idempotency } from '#libs/store/idempotency';
import type { OrderStore } from '#libs/store/orders';
import type { RouteAnswer } from './route.ts';
import { viewOrder } from './views.ts';

/** What every route that places orders may be refused with. */
export const placingErrors: ErrorCode[] = ['idempotency_key_reused', 'too_many_open_orders'];

/** The header of the routes that place orders, for their description. */
export const idempotencyHeader = {
  'Idempotency-Key': 'The same key with the same body answers the same for 7 days',
};

/** A request that is to become an order. */
export interface Placing {
  headers: Record<string, string | undefined>;
  key: ApiKey | null;
  /** What the same Idempotency-Key must come with again. */
  body: unknown;
  make(): Promise<Order>;
}

/** What tells a request from every other one, if its client says so; throws `request_invalid` when that cannot be used. */
export function idempotencyOf({ headers, key, body }: Omit<Placing, 'make'>): Idempotency | undefined {
  const given = headers['idempotency-key'];
  if (given === undefined) return undefined;
  if (given.length === 0 || given.length > 255) {
    const detail = 'Idempotency-Key must have 1 to 255 characters';
    const problems = [{ path: 'Idempotency-Key', code: 'request_invalid', detail } as const];
    throw new CertlineError('request_invalid', detail, { problems });
  }
  return { key: `${key?.id} ${given}`, body: JSON.stringify(body) };
}

/** Best effort: the order is safe, and the reconciler finds what could not be enqueued. */
export async function enqueueOrder(producer: Pick<Producer, 'enqueue'>, order: Order, log: Logger): Promise<void> {
  try {
    await producer.enqueue(order);
  } catch (error) {
    log.warn({ err: error, order: order.id }, 'not enqueued: the reconciler will do it');
  }
}

export interface OrderPlacerDeps {
  orders: Pick<OrderStore, 'place' | 'placedWith' | 'requireRoom'>;
  producer: Pick<Producer, 'enqueue'>;
  /** Unfinished orders that a key may have; 0 is no limit. */
  maxOpenOrders: number;
  log: Logger;
}

/** Places the order of a request, once per Idempotency-Key; the answer comes when it is safe. */
export function createOrderPlacer({ orders, producer, maxOpenOrders, log }: OrderPlacerDeps) {
  return async (placing: Placing): Promise<RouteAnswer> => {
    const idempotency = idempotencyOf(placing);
    // Before the checks: what was taken once stays taken, whatever became of its account or target.
    const earlier = idempotency ? await orders.placedWith(idempotency) : null;
    const limit = maxOpenOrders > 0 && placing.key ? { key: placing.key.id, most: maxOpenOrders } : null;
    // The checks may ask hosts: not for an order that has no room anyway.
    if (limit && !earlier) await orders.requireRoom(limit);
    const { order: placed, created } = earlier
      ? { order: earlier, created: false }
      : await orders.place(await placing.make(), idempotency, limit);
    if (created) await enqueueOrder(producer, placed, log);
    return { status: 202, json: viewOrder(placed), headers: { location: `/v1/orders/${placed.id}` } };
  };
}
