import type { OrderStatus } from '../model/order.ts';
import type { PageFilter } from './filtered-pages.ts';
import type { Keys } from './keys.ts';

/** Conditions on orders, all of which hold. */
export interface OrderFilter {
  status?: OrderStatus | undefined;
  name?: string | undefined;
  /** Of failed orders alone: code of the error, account, and a target to deploy to. */
  code?: string | undefined;
  account?: string | undefined;
  target?: string | undefined;
  /** Placed from `since` on and before `until`, ms since the epoch. */
  since?: number | undefined;
  until?: number | undefined;
}

/** The indexes whose orders fulfil all conditions. */
export function pageFilter(keys: Keys, { status, name, code, account, target, since, until }: OrderFilter): PageFilter {
  const ofFailed = [
    ...(code === undefined ? [] : [keys.failedByCode(code)]),
    ...(account === undefined ? [] : [keys.failedByAccount(account)]),
    ...(target === undefined ? [] : [keys.failedByTarget(target)]),
  ];
  const indexes = [
    ...ofFailed,
    ...(name === undefined ? [] : [keys.ordersByName(name)]),
    // What is in an index of failed orders has that status.
    ...(status === undefined || (status === 'failed' && ofFailed.length > 0) ? [] : [keys.ordersByStatus(status)]),
  ];
  return { indexes: indexes.length === 0 ? [keys.orders] : indexes, since, until };
}
