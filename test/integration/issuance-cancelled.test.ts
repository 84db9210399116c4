import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { certificateId } from '#libs/model/ids';
import type { Order } from '#libs/model/order';
import { cancelled } from '#libs/model/transitions';
import type { Redis } from '../../services/lab/redis.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** Orders that are called off while the CA issues for them. */
let server: Redis;
let driver: OrderDriver;

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  driver = await openOrderDriver(server);
});
afterEach(() => driver.close());

it('a certificate that the CA issued for an order that was called off meanwhile stays in the list', async () => {
  const { certificates, orders } = driver.pipeline.store;
  const id = await driver.place();
  await driver.drive(id, 1);
  const { create } = certificates;
  // The CA has issued: somebody calls the order off before anything of that is stored.
  certificates.create = async (...given) => {
    const order = await driver.read(id);
    expect(await orders.save<Order>(order, cancelled(order, driver.clock.now()), [])).not.toBeNull();
    return create(...given);
  };
  await driver.drive(id);
  expect(driver.ca.count('certificate')).toBe(1);
  const order = await driver.read(id);
  expect(order).toMatchObject({ status: 'cancelled' });
  const listed = await certificates.list({ limit: 10 });
  expect(listed.records.map((one) => one.id)).toEqual([certificateId(id, order.epoch)]);
});
