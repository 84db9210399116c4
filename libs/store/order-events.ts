import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { type Order, orderStatuses, stageNames } from '../model/order.ts';
import { type BulkRetryEvent, bulkRetryEventSchema } from './bulk-retry-events.ts';
import type { Keys } from './keys.ts';
import { type ParkingEvent, parkingEventSchema } from './parking-events.ts';
import type { Command, RedisClient } from './redis.ts';
import { type TargetEvent, targetEventSchema } from './target-events.ts';

/** Kinds of event in the life of an order. */
export const orderEventTypes = [
  'order_placed',
  'stage_started',
  'stage_progress',
  'stage_completed',
  'attempt_failed',
  'stage_waiting',
  'order_restarted',
  'order_parked',
  'order_resumed',
  'order_continued',
  /** A person has to make the TXT records of `detail`, or others than before. */
  'records_wanted',
  /** TXT records that a person was to make have done their service. */
  'records_removable',
  'order_failed',
  'order_retried',
  'order_cancelled',
  'order_completed',
] as const;

/** One thing that happened to an order. `at` is ms since the epoch; `id` is the order's version, which only grows, and a running number. */
export const orderEventSchema = z.object({
  id: z.string(),
  order: z.string(),
  at: z.number(),
  type: z.enum(orderEventTypes),
  status: z.enum(orderStatuses),
  epoch: z.number().int(),
  stage: z.enum(stageNames).optional(),
  code: z.string().optional(),
  detail: z.string().optional(),
  nextAttemptAt: z.number().optional(),
});
export type OrderEvent = z.infer<typeof orderEventSchema>;
export type OrderEventInput = Pick<OrderEvent, 'type' | 'at'> &
  Partial<Pick<OrderEvent, 'stage' | 'code' | 'detail' | 'nextAttemptAt'>>;

/** Events of one order that are kept; an order that is tried for months drops its oldest. */
const historyLength = 200;
/** Events of everything that are kept for live readers; each order has its own history. */
export const streamLength = 10_000;
/** How long a live reader rests after it got events, so that under load it reads many at once: nobody sees the difference. */
const feedRestMs = 50;

/** The commands that record events together with the save of their order. */
export function orderEventCommands(keys: Keys, order: Order, events: OrderEventInput[]): Command[] {
  if (events.length === 0) return [];
  const { id, status, epoch, version } = order;
  const told = events.map((event, index) => ({ id: `${version}-${index}`, status, ...event }));
  // Whose history it is its key says, and most orders have but one epoch: a third of a line, of which there are ten to an order.
  const inHistory = told.map((event) => JSON.stringify(epoch === 1 ? event : { epoch, ...event }));
  const history = keys.orderHistory(id);
  return [
    ['RPUSH', history, ...inHistory],
    ['LTRIM', history, String(-historyLength), '-1'],
    ...told.map((event): Command => {
      const line = JSON.stringify({ order: id, epoch, ...event } satisfies OrderEvent);
      return ['XADD', keys.events, 'MAXLEN', '~', String(streamLength), '*', 'event', line];
    }),
  ];
}

/** What happened to an order so far, oldest first. */
export async function readHistory(redis: RedisClient, keys: Keys, order: string): Promise<OrderEvent[]> {
  const lines = await redis.lrange(keys.orderHistory(order), 0, -1);
  return lines.map((line) => orderEventSchema.parse({ order, epoch: 1, ...JSON.parse(line) }));
}

/** An event of the stream: of an order, of a target, of an account or credential, or of a bulk retry. */
export type StreamEvent = OrderEvent | TargetEvent | ParkingEvent | BulkRetryEvent;
const streamEventSchema = z.union([orderEventSchema, targetEventSchema, parkingEventSchema, bulkRetryEventSchema]);

/** A reader of events as they happen, over a connection of its own, shared by all of its listeners. */
export interface EventFeed {
  /** Resolves once events that happen from now on will be told. */
  ready(): Promise<void>;
  subscribe(listener: (event: StreamEvent) => void): () => void;
  close(): Promise<void>;
}

/** Starts reading at the stream's end. `redis` is closed with the feed. */
export function createEventFeed(redis: RedisClient, keys: Keys, onError: (error: unknown) => void): EventFeed {
  const listeners = new Set<(event: StreamEvent) => void>();
  let open = true;

  async function endOfStream(): Promise<string> {
    const [last] = await redis.xrevrange(keys.events, '+', '-', 'COUNT', 1);
    return last?.[0] ?? '0-0';
  }

  async function read(from: string): Promise<void> {
    let position = from;
    while (open) {
      try {
        const reply = await redis.xread('COUNT', 500, 'BLOCK', 5_000, 'STREAMS', keys.events, position);
        for (const [, entries] of reply ?? []) {
          for (const [id, fields] of entries) {
            position = id;
            // An event of a newer version is told as an error; those behind it are read next.
            const event = streamEventSchema.parse(JSON.parse(fields[1] ?? ''));
            for (const listener of listeners) listener(event);
          }
        }
        if (reply !== null) await delay(feedRestMs);
      } catch (error) {
        if (open) onError(error);
      }
    }
  }

  const started = endOfStream();
  const reading = started.then(read).catch((error: unknown) => {
    if (open) onError(error);
  });
  return {
    ready: async () => {
      await started;
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      open = false;
      redis.disconnect();
      await reading;
    },
  };
}
