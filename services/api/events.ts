import type { Response } from 'express';
import { z } from 'zod';
import { CertlineError } from '#libs/errors';
import { isFinal, type Order } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import type { EventFeed, OrderEvent, StreamEvent } from '#libs/store/order-events';
import { openEventStream } from './event-stream.ts';
import { type Route, route } from './route.ts';
import {
  bulkRetryEventView,
  eventView,
  parkingEventView,
  targetEventView,
  viewEvent,
  viewStreamEvent,
} from './views.ts';

export interface EventRoutesDeps {
  findOrder(id: string): Promise<Order | null>;
  findTarget(id: string): Promise<Target | null>;
  history(id: string): Promise<OrderEvent[]>;
  feed: EventFeed;
}

const position = (id: string): [number, number] => {
  const [version = '0', index = '0'] = id.split('-');
  return [Number(version) || 0, Number(index) || 0];
};
const isAfter = (a: string, b: string): boolean => {
  const [[av, ai], [bv, bi]] = [position(a), position(b)];
  return av > bv || (av === bv && ai > bi);
};

const ending = new Set<OrderEvent['type']>(['order_completed', 'order_failed', 'order_cancelled']);

const allQuery = z.strictObject({
  order: z.string().optional().describe('The events of this order'),
  target: z.string().optional().describe('The events of this target; with `order` those of both'),
});

/** Server-sent events of orders, targets, accounts and credentials. */
export function eventRoutes({ findOrder, findTarget, history, feed }: EventRoutesDeps): Route[] {
  async function requireOrder(id: string): Promise<Order> {
    const order = await findOrder(id);
    if (order === null) throw new CertlineError('not_found', `there is no order ${id}`);
    return order;
  }

  /** History, then live, until the order has ended. */
  async function follow(order: Order, lastEventId: string, signal: AbortSignal, response: Response): Promise<void> {
    const stream = openEventStream(response, signal);
    let last = lastEventId;
    let ready = false;
    const early: OrderEvent[] = [];
    const send = (event: OrderEvent): void => {
      if (!isAfter(event.id, last)) return;
      last = event.id;
      stream.send(event.type, viewEvent(event), event.id);
      // An end in the past need not be the last word: the order may have been retried.
      if (ready && ending.has(event.type)) stream.end();
    };
    // Listen before the history is read, so that nothing falls between the two.
    const unsubscribe = feed.subscribe((event) => {
      if (!('order' in event) || event.order !== order.id) return;
      if (ready) send(event);
      else early.push(event);
    });
    try {
      await feed.ready();
      const past = await history(order.id);
      stream.begin();
      for (const event of past) send(event);
      ready = true;
      for (const event of early) send(event);
      // Not the order itself: it may have ended since, and then its end is still to come.
      const newest = past.at(-1);
      if (newest === undefined || ending.has(newest.type)) stream.end();
      await stream.ended;
    } finally {
      unsubscribe();
      stream.close();
    }
  }

  /** What happens from now on, until the client has gone. */
  async function live(wanted: (event: StreamEvent) => boolean, signal: AbortSignal, response: Response): Promise<void> {
    const stream = openEventStream(response, signal);
    let unsubscribe = (): void => {};
    try {
      await feed.ready();
      stream.begin();
      // Without ids: those of different orders are no positions to come back to.
      unsubscribe = feed.subscribe((event) => {
        if (wanted(event)) stream.send(event.type, viewStreamEvent(event));
      });
      await stream.ended;
    } finally {
      unsubscribe();
      stream.close();
    }
  }

  return [
    route({
      method: 'get',
      path: '/v1/orders/:id/events',
      scope: 'orders:read',
      tag: 'Orders',
      summary: 'Follow an order',
      description:
        'Server-sent events: what happened so far, then what happens, until the order has ended. `Last-Event-ID` takes it up where it broke off.',
      headers: { 'Last-Event-ID': 'The last event that was seen' },
      answers: {
        200: { description: 'Events; the data of each is this', schema: eventView, type: 'text/event-stream' },
      },
      errors: ['not_found'],
      async handle({ params, headers, signal }) {
        const order = await requireOrder(params.id ?? '');
        const lastEventId = headers['last-event-id'] ?? '';
        if (lastEventId !== '' && isFinal(order)) {
          const newest = (await history(order.id)).at(-1)?.id ?? '';
          // 204 tells an EventSource that there is nothing to come back for.
          if (!isAfter(newest, lastEventId)) return { status: 204, content: '', type: 'text/plain' };
        }
        return { stream: (response) => follow(order, lastEventId, signal, response) };
      },
    }),
    route({
      method: 'get',
      path: '/v1/events',
      scope: 'orders:read',
      tag: 'Orders',
      summary: 'Follow everything',
      description:
        'Server-sent events of every order, those with several targets and their parts among them, of every target, of accounts and credentials whose orders are held or go on, and of bulk retries, as they happen. They begin when the answer does; what was missed is in `GET /v1/orders/:id/events`, `GET /v1/drift`, and `parked` of accounts and credentials.',
      query: allQuery,
      answers: {
        200: {
          description: 'Events; the data of each is one of these',
          schema: z.union([eventView, targetEventView, parkingEventView, bulkRetryEventView]),
          type: 'text/event-stream',
        },
      },
      errors: ['not_found', 'request_invalid'],
      async handle({ query: { order, target }, signal }) {
        if (order !== undefined) await requireOrder(order);
        if (target !== undefined && (await findTarget(target)) === null)
          throw new CertlineError('not_found', `there is no target ${target}`);
        const wanted = (event: StreamEvent): boolean =>
          (order === undefined && target === undefined) ||
          ('order' in event && event.order === order) ||
          ('target' in event && event.target === target);
        return { stream: (response) => live(wanted, signal, response) };
      },
    }),
  ];
}
