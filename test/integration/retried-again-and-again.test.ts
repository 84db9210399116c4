import { afterAll, beforeAll, expect, it } from 'vitest';
import { retriedByHand } from '#libs/model/retry-by-hand';
import type { Redis } from '../../services/lab/redis.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { problem } from '../support/scripted-ca.ts';

/** A client that retries, or orders anew, as soon as an order has failed. */
let server: Redis;
let driver: OrderDriver;

beforeAll(async () => {
  server = await startTestRedis();
  driver = await openOrderDriver(server, undefined, { failed_validations_per_name: '5/1h' });
});
afterAll(async () => {
  await driver?.close();
  await server?.close();
});

const names = ['shop.example'];
async function retry(id: string): Promise<void> {
  const order = await driver.read(id);
  await driver.pipeline.store.orders.save(order, retriedByHand(order, undefined, driver.clock.now()), []);
}

it('is let through at once, but not past the limit of the CA: then the order waits and says for what', async () => {
  // The CA rejects the name for good: nothing of ours is in the way of the next try.
  driver.ca.onChallenge = (order, authorization) => {
    authorization.status = 'invalid';
    authorization.error = problem('rejectedIdentifier', 'not this one');
    order.status = 'invalid';
  };
  const id = await driver.place({ names });
  expect(await driver.drive(id)).toEqual(['validation failed identifier_rejected']);
  for (const _ of [2, 3, 4]) {
    await retry(id);
    expect(await driver.drive(id)).toEqual(['validation failed identifier_rejected']);
  }
  expect(await driver.drive(await driver.place({ names }))).toEqual(['validation failed identifier_rejected']);

  await retry(id);
  // One of five in an hour is free again after 12 minutes.
  expect(await driver.drive(id, 1)).toEqual([
    expect.stringMatching(/^validation wait ca_budget_spent in 1[12](\.\d+)? min$/),
  ]);
  expect(await driver.shown(id)).toMatchObject({
    ...{ status: 'pending', attempts: { validation: 0 } },
    error: { detail: expect.stringContaining('failed validations per name and account: 5 in 1 hour for shop.example') },
    next: expect.stringMatching(/^Looked at again at .*: waiting uses no attempt;/),
  });
  const another = await driver.place({ names });
  expect(await driver.drive(another, 1)).toEqual([expect.stringContaining('validation wait ca_budget_spent')]);
  expect(driver.ca.count('newOrder')).toBe(5);

  driver.ca.onChallenge = null;
  expect((await driver.drive(id)).at(-1)).toBe('issuance completed');
});
