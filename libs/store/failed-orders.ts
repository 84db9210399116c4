import { type Order, targetsOf } from '../model/order.ts';
import type { Keys } from './keys.ts';
import type { Command } from './redis.ts';

/** The indexes that a failed order is in; none for any other, so that what goes well costs nothing. */
function indexesOf(keys: Keys, order: Order): string[] {
  if (order.status !== 'failed' || order.partOf !== null) return [];
  const { account, deploy } = order.request;
  return [
    ...[keys.failedByCode(order.error.code), keys.failedByAccount(account)],
    ...targetsOf(deploy).map(keys.failedByTarget),
  ];
}

/** What a save changes in the indexes of failed orders. */
export function failedOrderCommands(keys: Keys, order: Order, previous: Order | null): Command[] {
  const [before, after] = [previous === null ? [] : indexesOf(keys, previous), indexesOf(keys, order)];
  const gone = before.filter((index) => !after.includes(index));
  const come = after.filter((index) => !before.includes(index));
  return [
    ...gone.map((index): Command => ['ZREM', index, order.id]),
    ...come.map((index): Command => ['ZADD', index, String(order.createdAt), order.id]),
  ];
}
