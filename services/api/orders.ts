import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';
import { isInHand, type Order, orderStatuses, stageNames } from '#libs/model/order';
import { refusePart, retriedByHand } from '#libs/model/retry-by-hand';
import { cancelled, isCancellable } from '#libs/model/transitions';
import type { Producer } from '#libs/queues/producer';
import type { ValidationRequests } from '#libs/queues/validation-requests';
import type { OrderEventInput } from '#libs/store/order-events';
import type { OrderStore } from '#libs/store/orders';
import { continuedByHand } from './continue-order.ts';
import { filterFields, refuseConditions } from './order-filter.ts';
import { type Intake, intakeErrors, orderBody } from './order-intake.ts';
import { orderPreview } from './order-preview.ts';
import { createOrderPlacer, enqueueOrder, idempotencyHeader, placingErrors } from './place-order.ts';
import { type Route, route } from './route.ts';
import { orderView, pageOf, pageQuery, viewOrder } from './views.ts';

export interface OrderRoutesDeps {
  orders: OrderStore;
  producer: Pick<Producer, 'enqueue'>;
  intake: Intake;
  validation: Pick<ValidationRequests, 'check'>;
  maxOpenOrders: number;
  clock: Clock;
  log: Logger;
}

const tag = 'Orders';
const json = { description: 'The order', schema: orderView };
const listQuery = pageQuery
  .extend({ status: z.enum(orderStatuses).optional(), ...filterFields })
  .superRefine(refuseConditions);
/** How long an order is kept that may be on a host which does not answer, ms; then it may be called off all the same. */
const doubtPatienceMs = 3_600_000;

const retryBody = z
  .strictObject({
    from: z.enum(stageNames).optional().describe('The stage to take it up from; the latest possible by default'),
  })
  .optional();

/** How often a change by hand is tried against workers that change the order at the same time. */
const tries = 10;

export function orderRoutes(deps: OrderRoutesDeps): Route[] {
  const { orders, producer, intake, validation, clock, log } = deps;
  const place = createOrderPlacer(deps);

  async function find(id: string | undefined): Promise<Order> {
    const order = id === undefined ? null : await orders.get(id);
    if (order === null) throw new CertlineError('not_found', `there is no order ${id}`);
    return order;
  }

  async function change(
    id: string | undefined,
    type: OrderEventInput['type'],
    next: (order: Order) => Order,
  ): Promise<Order> {
    for (let i = 0; i < tries; i += 1) {
      const order = await find(id);
      const changed = next(order);
      if (changed === order) return order;
      const saved = await orders.save(order, changed, [{ type, at: clock.now() }]);
      if (saved) return saved;
    }
    throw new CertlineError('order_state_conflict', 'the order keeps changing; try again');
  }

  return [
    route({
      method: 'post',
      path: '/v1/orders',
      scope: 'orders:write',
      tag,
      summary: 'Order a certificate',
      description:
        'Everything is checked before anything is stored; after 202 the order is safe. Names come from `names`, or from the bindings of an IIS site.',
      headers: idempotencyHeader,
      body: orderBody,
      answers: { 202: { description: 'The order, with its URL in `Location`', schema: orderView } },
      errors: [...intakeErrors, ...placingErrors],
      handle: ({ body, headers, key, signal }) => place({ headers, key, body, make: () => intake.order(body, signal) }),
    }),
    orderPreview({ intake, validation }),
    route({
      method: 'get',
      path: '/v1/orders',
      scope: 'orders:read',
      tag,
      summary: 'List orders, newest first',
      description:
        'With several conditions a page may have fewer orders than `limit`, or none, though there are more: the last page is the one whose `cursor` is null.',
      query: listQuery,
      answers: { 200: { description: 'A page of orders', schema: pageOf(orderView) } },
      async handle({ query }) {
        const { orders: items, cursor } = await orders.list(query);
        return { status: 200, json: { items: items.map((order) => viewOrder(order)), cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/orders/:id',
      scope: 'orders:read',
      tag,
      summary: 'Read an order',
      answers: { 200: json },
      errors: ['not_found'],
      async handle({ params }) {
        const order = await find(params.id);
        return { status: 200, json: viewOrder(order, await orders.openParts(order)) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/orders/:id/retry',
      scope: 'orders:write',
      tag,
      summary: 'Take a failed order up again',
      description:
        'With several targets, from `deployment`: those that have the certificate keep it, the others are taken up again wave after wave; from `validation`: all get a new certificate.',
      body: retryBody,
      answers: { 202: json },
      errors: ['not_found', 'order_state_conflict'],
      async handle({ params, body }) {
        const saved = await change(params.id, 'order_retried', (order) =>
          retriedByHand(order, body?.from, clock.now()),
        );
        await enqueueOrder(producer, saved, log);
        return { status: 202, json: viewOrder(saved) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/orders/:id/continue',
      scope: 'orders:write',
      tag,
      summary: 'Look again at once',
      description:
        'For an order that waits until something can be seen: the TXT records that a person makes (`records`), or a name server or web server that lags. It goes on by itself, too.',
      answers: { 202: json },
      errors: ['not_found', 'order_state_conflict'],
      async handle({ params }) {
        const saved = await change(params.id, 'order_continued', (order) => continuedByHand(order, clock.now()));
        await enqueueOrder(producer, saved, log);
        return { status: 202, json: viewOrder(saved) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/orders/:id/cancel',
      scope: 'orders:write',
      tag,
      summary: 'Call an order off',
      description:
        'A certificate that was issued already stays. While a worker deploys it the order cannot be called off: that attempt comes to its end. Nor can one whose host was lost while it was changed, for an hour: it may have the certificate. Of several targets those are called off that were not begun; `deployments` says which.',
      answers: { 200: json },
      errors: ['not_found', 'order_state_conflict'],
      async handle({ params }) {
        const order = await find(params.id);
        refusePart(order, 'cancel');
        if (order.status === 'cancelled') {
          // Whoever asks again may have seen that its parts go on.
          await enqueueOrder(producer, order, log);
          return { status: 200, json: viewOrder(order) };
        }
        const saved = await change(params.id, 'order_cancelled', (current) => {
          if (current.status === 'cancelled') return current;
          const { error, nextAttemptAt, startedAt } = current;
          // A host that is gone for good would keep its orders for weeks.
          const isGivenUp = nextAttemptAt !== null && clock.now() - (startedAt ?? 0) > doubtPatienceMs;
          if (isInHand(current) && !isGivenUp) {
            const later = nextAttemptAt === null ? 'in a moment' : `after ${new Date(nextAttemptAt).toISOString()}`;
            const next = error?.code === 'pool_unserved' ? `${error.detail}: start one` : `try again ${later}`;
            const reason = 'the target may have the certificate already, so that is found out first';
            throw new CertlineError('order_state_conflict', `a worker has begun to deploy it: ${reason}; ${next}`);
          }
          if (!isCancellable(current))
            throw new CertlineError(
              'order_state_conflict',
              `the order is ${current.status}: there is nothing to call off`,
            );
          return cancelled(current, clock.now());
        });
        // The parts of a rollout are to hear of it.
        await enqueueOrder(producer, saved, log);
        return { status: 200, json: viewOrder(saved) };
      },
    }),
  ];
}
