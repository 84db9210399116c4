import { expect, it } from 'vitest';
import type { Order } from '#libs/model/order';
import { cancelled, deployed, failed } from '#libs/model/transitions';
import { failedOrderCommands } from '#libs/store/failed-orders';
import { createKeys } from '#libs/store/keys';
import { failure, issuedOrder, pendingOrder, placedAt, validatedOrder } from '../../support/sample-orders.ts';

const keys = createKeys('test');
const gone = failed(issuedOrder(), 'deployment', failure, placedAt);

it('an order that goes well, or is called off, costs nothing in the indexes of failed ones', () => {
  const way: Order[] = [pendingOrder(), validatedOrder(), issuedOrder(), deployed(issuedOrder(), placedAt)];
  expect(way.flatMap((order, at) => failedOrderCommands(keys, order, way[at - 1] ?? null))).toEqual([]);
  expect(failedOrderCommands(keys, cancelled(pendingOrder(), placedAt), pendingOrder())).toEqual([]);
});

it('one that fails is put there by code, account and target, and taken away when it is retried', () => {
  const indexes = ['code:ca_unavailable', 'account:acc_1', 'target:tgt_1'].map((one) => `{test}:orders:failed:${one}`);
  expect(failedOrderCommands(keys, gone, issuedOrder())).toEqual(
    indexes.map((index) => ['ZADD', index, String(placedAt), 'ord_1']),
  );
  expect(failedOrderCommands(keys, issuedOrder(), gone)).toEqual(indexes.map((index) => ['ZREM', index, 'ord_1']));
});

it('a failed one whose error becomes another changes its place alone', () => {
  const other = { ...gone, error: { ...failure, code: 'superseded' as const } };
  expect(failedOrderCommands(keys, other, gone)).toEqual([
    ['ZREM', '{test}:orders:failed:code:ca_unavailable', 'ord_1'],
    ['ZADD', '{test}:orders:failed:code:superseded', String(placedAt), 'ord_1'],
  ]);
});

it('a part of a rollout is found through the whole, and is not there', () => {
  expect(failedOrderCommands(keys, { ...gone, partOf: 'ord_whole' }, issuedOrder())).toEqual([]);
});
