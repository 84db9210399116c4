import { createHash, randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { CertlineError } from '../errors.ts';
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
import type { Keys } from './keys.ts';
import { type OrderEventInput, orderEventCommands } from './order-events.ts';
import { pageOf } from './paging.ts';
import { presentedCommands } from './presented.ts';
import { recordEvents } from './record-events.ts';
import type { Command } from './redis.ts';

const day = 86_400_000;
const idempotencyLife = 7 * day;
/** How long after it became due an order without progress is looked at by the reconciler. */
export const reconcileGraceMs = 5_000;

export interface OrderPage {
  orders: Order[];
  cursor: string | null;
}

export interface OrderFilter {
  status?: OrderStatus | undefined;
  name?: string | undefined;
  cursor?: string | undefined;
  limit: number;
}

/** A client's word for one request, which it may send more than once. */
export interface Idempotency {
  key: string;
  body: string;
}

/** Orders in Redis: the state machine of the pipeline. Every change is a compare-and-set on `version`. */
export interface OrderStore {
  /** The order that was placed with an idempotency key, null when none was; throws as `place` does. */
  placedWith(idempotency: Idempotency): Promise<Order | null>;
  /**
   * Stores a new order with its indexes in one step. With an idempotency key the order that came first under it is answered;
   * throws `idempotency_key_reused` when that one had another body.
   */
  place(order: Order, idempotency?: Idempotency): Promise<{ order: Order; created: boolean }>;
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
  /** Newest first. */
  list(filter: OrderFilter): Promise<OrderPage>;
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

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

/** The sets of what an order must not lose before it has ended. */
function usedBy(keys: Keys, { request, partOf }: Order): string[] {
  const targets = targetsOf(request.deploy).map(keys.targetOrders);
  // A part of a rollout validates nothing.
  if (partOf !== null) return targets;
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
  commands.push(...presentedCommands(keys, order, previous));
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
  const { version, epoch, status } = order;
  const fields = ['version', String(version), 'epoch', String(epoch), 'status', status, 'write', write];
  return ['HSET', keys.order(order.id), ...fields, 'document', JSON.stringify(order)];
}

export function createOrderStore(redis: Redis, keys: Keys): OrderStore {
  async function get(id: string): Promise<Order | null> {
    const document = await redis.hget(keys.order(id), 'document');
    return document === null ? null : orderSchema.parse(JSON.parse(document));
  }

  async function getMany(ids: string[]): Promise<Order[]> {
    const orders = await Promise.all(ids.map(get));
    return orders.filter((order) => order !== null);
  }

  /** The order of an idempotency key, by what the key holds. */
  async function earlier(held: string, body: string): Promise<Order> {
    const [id = '', itsBody] = held.split(' ');
    if (itsBody !== sha256(body)) {
      throw new CertlineError('idempotency_key_reused', `this Idempotency-Key placed ${id} with another body`);
    }
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

    async placedWith({ key, body }) {
      const held = await redis.get(keys.idempotency(sha256(key)));
      return held === null ? null : earlier(held, body);
    },

    async place(order, idempotency) {
      const first = { ...order, version: 1 };
      const write = randomUUID();
      const placed: OrderEventInput = {
        type: 'order_placed',
        at: order.createdAt,
      };
      const commands = [
        recordCommand(keys, first, write),
        ...indexCommands(keys, first, null),
        ...orderEventCommands(keys, first, [placed]),
      ];
      if (!idempotency) {
        await redis.commit(keys.order(order.id), '', write, JSON.stringify(commands));
        return { order: first, created: true };
      }
      const mine = `${order.id} ${sha256(idempotency.body)}`;
      const key = keys.idempotency(sha256(idempotency.key));
      const counts = await redis.placeOnce(key, mine, String(idempotencyLife), JSON.stringify(commands));
      if (counts === mine) return { order: first, created: true };
      return { order: await earlier(counts, idempotency.body), created: false };
    },

    async save(previous, next, events, also = []) {
      const write = randomUUID();
      const saved = { ...next, version: previous.version + 1 };
      const commands = [
        recordCommand(keys, saved, write),
        ...indexCommands(keys, saved, previous),
        ...orderEventCommands(keys, saved, [...recordEvents(previous, saved), ...events]),
        ...also,
      ];
      const done = await redis.commit(keys.order(next.id), String(previous.version), write, JSON.stringify(commands));
      if (done !== 1) return null;
      // It never came to finalize. When this is lost it stays counted, which costs time and breaks no limit.
      const isOver = saved.status === 'failed' || saved.status === 'cancelled';
      if (isOver && saved.stage === 'validation') {
        await redis.giveBackBudget(keys.caBudgetOrder(saved.id)).catch(() => 0);
      }
      return saved;
    },

    async list({ status, name, cursor, limit }) {
      // The smallest index that fits; a second condition is checked on the records.
      const index = name !== undefined ? keys.ordersByName(name) : status ? keys.ordersByStatus(status) : keys.orders;
      const page = await pageOf(redis, index, cursor, limit);
      const orders = await getMany(page.ids);
      return {
        orders: orders.filter((order) => status === undefined || order.status === status),
        cursor: page.cursor,
      };
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
