import { CertlineError } from '../errors.ts';
import { hasNoCertificate } from '../model/ca-limits.ts';
import { answeringTargets, credentialsOf } from '../model/challenge-method.ts';
import {
  activeStage,
  isFinal,
  isForOneTarget,
  isWindingDown,
  type Order,
  type OrderStatus,
  orderSchema,
  targetsOf,
} from '../model/order.ts';
import { failedOrderCommands } from './failed-orders.ts';
import { filteredPage } from './filtered-pages.ts';
import { type Idempotency, idHeld, madeBy, onceFor } from './idempotency.ts';
import type { Keys } from './keys.ts';
import { type OrderEventInput, orderEventCommands } from './order-events.ts';
import { type OrderFilter, pageFilter } from './order-filter.ts';
import { presentedCommands } from './presented.ts';
import { recordEvents } from './record-events.ts';
import type { Command, RedisClient } from './redis.ts';
import { newWrite } from './write-token.ts';

/** How long after it became due an order without progress is looked at by the reconciler. */
export const reconcileGraceMs = 5_000;

export interface OrderPage {
  orders: Order[];
  cursor: string | null;
}

/** What an API key may have at a time. */
export interface OpenOrderLimit {
  key: string;
  most: number;
}

/** Orders in Redis: the state machine of the pipeline. Every change is a compare-and-set on `version`. */
export interface OrderStore {
  /** The order that was placed with an idempotency key, null when none was; throws as `place` does. */
  placedWith(idempotency: Idempotency): Promise<Order | null>;
  /**
   * Stores a new order with its indexes in one step. With an idempotency key the order that came first under it is answered;
   * throws `idempotency_key_reused` when that one had another body. With a limit it counts as one of the key until it has ended; throws
   * `too_many_open_orders` when the key has as many.
   */
  place(
    order: Order,
    idempotency?: Idempotency,
    limit?: OpenOrderLimit | null,
  ): Promise<{ order: Order; created: boolean }>;
  /** Throws `too_many_open_orders` when there is no room: a look before work that would be for nothing. */
  requireRoom(limit: OpenOrderLimit): Promise<void>;
  get(id: string): Promise<Order | null>;
  /** The orders of a rollout's targets by id, without those that are deployed: at the end of a large one only a few are read. */
  openParts(whole: Order): Promise<Map<string, Order>>;
  /** Replaces `previous` by `next`, with what else belongs to it, and answers it with its new version; null when somebody else was faster. */
  save<T extends Order>(
    previous: Order,
    next: T,
    events: OrderEventInput[],
    also?: readonly Command[],
  ): Promise<T | null>;
  /** Newest first. With several conditions a page may have fewer orders than `limit` though it is not the last. */
  list(filter: OrderFilter & { cursor?: string | undefined; limit: number }): Promise<OrderPage>;
  /** Ids of the newest `limit` failed orders of a filter, and whether there are more. */
  failed(filter: Omit<OrderFilter, 'status'>, limit: number): Promise<{ ids: string[]; more: boolean }>;
  count(status: OrderStatus): Promise<number>;
  /** Ids of unfinished orders that ought to be looked at by `now`, the longest overdue first. */
  overdue(now: number, limit: number): Promise<string[]>;
  /** Puts off the next look at an unfinished order. */
  lookAgain(id: string, at: number): Promise<void>;
  /** Ids of orders due for deployment on a target. */
  due(target: string, now: number, limit: number): Promise<string[]>;
  /** When the next order of a target is due, if there is one. */
  nextDue(target: string): Promise<number | null>;
  /** Puts an order on its target's list if it is not there: the net under a removal that raced with its becoming due. */
  ensureDue(order: Order): Promise<void>;
  /** Changes when an order of a target's list is due. */
  putOffDue(target: string, id: string, at: number): Promise<void>;
  /** Ids of unfinished orders that are to be deployed on a target, whatever their stage. */
  unfinishedAt(target: string): Promise<string[]>;
  /** Ids of unfinished orders with a challenge that the host of a target answers. */
  answeredAt(target: string): Promise<string[]>;
  /** Ids of unfinished orders with a challenge that a credential is for. */
  unfinishedWith(credential: string): Promise<string[]>;
  /** Takes an order off a target's list: for ids whose record is gone. */
  dropDue(target: string, id: string): Promise<void>;
  /** Ids of orders held until an account or a credential is mended. */
  parked(on: string): Promise<string[]>;
}

/** The sets that an order is in until it has ended: of what it must not lose, and of the key that placed it. */
function usedBy(keys: Keys, { request, partOf, placedBy }: Order): string[] {
  const targets = targetsOf(request.deploy).map(keys.targetOrders);
  // A part of a rollout validates nothing.
  if (partOf !== null) return targets;
  if (placedBy !== undefined) targets.push(keys.ordersPlacedBy(placedBy));
  const answering = answeringTargets(request).map(keys.answeringOrders);
  return [...targets, ...answering, ...credentialsOf(request).map(keys.credentialOrders)];
}

function indexCommands(keys: Keys, order: Order, previous: Order | null): Command[] {
  const { id } = order;
  const created = String(order.createdAt);
  const commands: Command[] = [];
  // Parts of a rollout are found through it: lists and counts are of what was asked for.
  const listed = order.partOf === null;
  if (listed && previous === null) {
    commands.push(['ZADD', keys.orders, created, id]);
    for (const name of order.request.names) commands.push(['ZADD', keys.ordersByName(name), created, id]);
  }
  if (listed && previous?.status !== order.status) {
    if (previous) commands.push(['ZREM', keys.ordersByStatus(previous.status), id]);
    commands.push(['ZADD', keys.ordersByStatus(order.status), created, id]);
  }
  const dueAt = String(order.nextAttemptAt ?? order.updatedAt);
  const active = activeStage(order);
  if (active !== null || isWindingDown(order))
    commands.push(['ZADD', keys.openOrders, String(Number(dueAt) + reconcileGraceMs), id]);
  else if (previous) commands.push(['ZREM', keys.openOrders, id]);
  if (order.parkedOn !== null) commands.push(['SADD', keys.parkedOrders(order.parkedOn), id]);
  else if (previous?.parkedOn) commands.push(['SREM', keys.parkedOrders(previous.parkedOn), id]);
  commands.push(...presentedCommands(keys, order, previous), ...failedOrderCommands(keys, order, previous));
  // Nobody finalizes it any more; of one that a worker has in hand a certificate may come yet.
  if (order.status === 'cancelled' && previous?.status === 'validated' && previous.signing && !previous.startedAt)
    commands.push(['DEL', keys.secret(previous.signing.privateKey)]);
  const { deploy } = order.request;
  const ended = isFinal(order);
  if (ended !== (previous === null || isFinal(previous)))
    for (const key of usedBy(keys, order)) commands.push([ended ? 'SREM' : 'SADD', key, id]);
  if (isForOneTarget(deploy)) {
    if (active === 'deployment') commands.push(['ZADD', keys.dueOrders(deploy.target), dueNow(order), id]);
    else if (previous?.status === 'issued') commands.push(['ZREM', keys.dueOrders(deploy.target), id]);
  }
  return commands;
}

/** Score of an order on its target's list: 0 is now, whatever another machine's clock says. */
function dueNow(order: Order): string {
  return String(order.nextAttemptAt ?? 0);
}

function recordCommand(keys: Keys, order: Order, write: string): Command {
  const fields = ['version', String(order.version), 'write', write, 'document', JSON.stringify(order)];
  return ['HSET', keys.order(order.id), ...fields];
}

function tooManyOpen(limit: OpenOrderLimit | null): CertlineError {
  return new CertlineError(
    'too_many_open_orders',
    `the API key has ${limit?.most} unfinished orders, and may have no more`,
  );
}

export function createOrderStore(redis: RedisClient, keys: Keys): OrderStore {
  async function get(id: string): Promise<Order | null> {
    const document = await redis.hget(keys.order(id), 'document');
    return document === null ? null : orderSchema.parse(JSON.parse(document));
  }

  async function getMany(ids: string[]): Promise<Order[]> {
    const orders = await Promise.all(ids.map(get));
    return orders.filter((order) => order !== null);
  }

  /** The order that an idempotency key has placed. */
  async function earlier(id: string): Promise<Order> {
    const order = await get(id);
    if (order === null) throw new CertlineError('not_found', `${id}, placed with this Idempotency-Key, is gone`);
    return order;
  }

  return {
    get,

    async openParts({ deployments }) {
      const open = deployments.flatMap(({ order, status }) => (order === null || status === 'deployed' ? [] : [order]));
      return new Map((await getMany(open)).map((part) => [part.id, part]));
    },

    async placedWith(idempotency) {
      const id = await madeBy(redis, keys, idempotency);
      return id === null ? null : earlier(id);
    },

    async place(order, idempotency, limit = null) {
      const first = { ...order, version: 1, ...(limit === null ? {} : { placedBy: limit.key }) };
      const write = newWrite();
      const placed: OrderEventInput = {
        type: 'order_placed',
        at: order.createdAt,
      };
      const commands = JSON.stringify([
        recordCommand(keys, first, write),
        ...indexCommands(keys, first, null),
        ...orderEventCommands(keys, first, [placed]),
      ]);
      const once = idempotency ? onceFor(keys, idempotency, order.id) : null;
      const mine = once?.[1] ?? '';
      let counts: string | null = mine;
      if (limit !== null) {
        const open = [keys.ordersPlacedBy(limit.key), String(limit.most)] as const;
        counts = await redis.placeWithin(...open, keys.order(order.id), commands, ...(once ?? []));
      } else if (once === null) await redis.commit(keys.order(order.id), '', write, commands);
      else counts = await redis.placeOnce(...once, commands);
      if (counts === null) throw tooManyOpen(limit);
      if (!idempotency || counts === mine) return { order: first, created: true };
      return { order: await earlier(idHeld(counts, idempotency)), created: false };
    },

    async requireRoom(limit) {
      if ((await redis.scard(keys.ordersPlacedBy(limit.key))) >= limit.most) throw tooManyOpen(limit);
    },

    async save(previous, next, events, also = []) {
      const write = newWrite();
      const saved = { ...next, version: previous.version + 1 };
      const commands = [
        recordCommand(keys, saved, write),
        ...indexCommands(keys, saved, previous),
        ...orderEventCommands(keys, saved, [...recordEvents(previous, saved), ...events]),
        ...also,
      ];
      const done = await redis.commit(keys.order(next.id), String(previous.version), write, JSON.stringify(commands));
      if (done !== 1) return null;
      // When this is lost it stays counted, which costs time and breaks no limit.
      if (hasNoCertificate(saved))
        await redis.giveBackBudget(keys.caBudgetOrder(saved.id), 'certificate').catch(() => 0);
      return saved;
    },

    async list({ cursor, limit, ...filter }) {
      const page = await filteredPage(redis, pageFilter(keys, filter), cursor, limit);
      return { orders: await getMany(page.ids), cursor: page.cursor };
    },

    async failed(filter, limit) {
      const ids: string[] = [];
      for (let cursor: string | null | undefined; cursor !== null && ids.length <= limit; ) {
        const conditions = pageFilter(keys, { ...filter, status: 'failed' });
        const page = await filteredPage(redis, conditions, cursor, limit + 1 - ids.length);
        ids.push(...page.ids);
        cursor = page.cursor;
      }
      return { ids: ids.slice(0, limit), more: ids.length > limit };
    },

    count: (status) => redis.zcard(keys.ordersByStatus(status)),
    overdue: (now, limit) => redis.zrangebyscore(keys.openOrders, '-inf', now, 'LIMIT', 0, limit),
    async lookAgain(id, at) {
      await redis.zadd(keys.openOrders, 'XX', String(at), id);
    },
    due: (target, now, limit) => redis.zrangebyscore(keys.dueOrders(target), '-inf', now, 'LIMIT', 0, limit),
    async nextDue(target) {
      const [, score] = await redis.zrangebyscore(keys.dueOrders(target), '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, 1);
      return score === undefined ? null : Number(score);
    },
    async ensureDue(order) {
      const { deploy } = order.request;
      if (!isForOneTarget(deploy) || activeStage(order) !== 'deployment') return;
      await redis.zadd(keys.dueOrders(deploy.target), 'NX', dueNow(order), order.id);
    },
    async putOffDue(target, id, at) {
      await redis.zadd(keys.dueOrders(target), 'XX', String(at), id);
    },
    unfinishedAt: (target) => redis.smembers(keys.targetOrders(target)),
    answeredAt: (target) => redis.smembers(keys.answeringOrders(target)),
    unfinishedWith: (credential) => redis.smembers(keys.credentialOrders(credential)),
    async dropDue(target, id) {
      await redis.zrem(keys.dueOrders(target), id);
    },
    parked: (on) => redis.smembers(keys.parkedOrders(on)),
  };
}
