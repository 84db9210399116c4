import type { Response } from 'express';
import { CertlineError } from '#libs/errors';
import { isFinal, type Order } from '#libs/model/order';
import type { EventFeed, OrderEvent } from '#libs/store/order-events';
import { type Route, route } from './route.ts';
import { eventView, viewEvent } from './views.ts';

export interface EventRoutesDeps {
  findOrder(id: string): Promise<Order | null>;
  history(id: string): Promise<OrderEvent[]>;
  feed: EventFeed;
}

/** A line now and then keeps proxies from closing a quiet stream. */
const heartbeatMs = 15_000;

const position = (id: string): [number, number] => {
  const [version = '0', index = '0'] = id.split('-');
  return [Number(version) || 0, Number(index) || 0];
};
const isAfter = (a: string, b: string): boolean => {
  const [[av, ai], [bv, bi]] = [position(a), position(b)];
  return av > bv || (av === bv && ai > bi);
};

const ending = new Set<OrderEvent['type']>(['order_completed', 'order_failed', 'order_cancelled']);

/** Server-sent events (WHATWG HTML §9.2): history, then live, until the order has ended. */
export function eventRoutes({ findOrder, history, feed }: EventRoutesDeps): Route[] {
  async function stream(order: Order, lastEventId: string, signal: AbortSignal, response: Response): Promise<void> {
    let last = lastEventId;
    let ready = false;
    const early: OrderEvent[] = [];
    const ended = Promise.withResolvers<void>();
    const send = (event: OrderEvent): void => {
      if (!isAfter(event.id, last)) return;
      last = event.id;
      response.write(`id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(viewEvent(event))}\n\n`);
      // An end in the past need not be the last word: the order may have been retried.
      if (ready && ending.has(event.type)) ended.resolve();
    };
    // Listen before the history is read, so that nothing falls between the two.
    const unsubscribe = feed.subscribe((event) => {
      if (!('order' in event) || event.order !== order.id) return;
      if (ready) send(event);
      else early.push(event);
    });
    const heartbeat = setInterval(() => response.write(': still here\n\n'), heartbeatMs);
    signal.addEventListener('abort', () => ended.resolve(), { once: true });
    try {
      await feed.ready();
      const past = await history(order.id);
      response.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
      });
      for (const event of past) send(event);
      ready = true;
      for (const event of early) send(event);
      // Not the order itself: it may have ended since, and then its end is still to come.
      const newest = past.at(-1);
      if (newest === undefined || ending.has(newest.type)) ended.resolve();
      await ended.promise;
    } finally {
      clearInterval(heartbeat);
      unsubscribe();
      response.end();
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
        const order = await findOrder(params.id ?? '');
        if (order === null) throw new CertlineError('not_found', `there is no order ${params.id}`);
        const lastEventId = headers['last-event-id'] ?? '';
        if (lastEventId !== '' && isFinal(order)) {
          const newest = (await history(order.id)).at(-1)?.id ?? '';
          // 204 tells an EventSource that there is nothing to come back for.
          if (!isAfter(newest, lastEventId)) return { status: 204, content: '', type: 'text/plain' };
        }
        return { stream: (response) => stream(order, lastEventId, signal, response) };
      },
    }),
  ];
}
