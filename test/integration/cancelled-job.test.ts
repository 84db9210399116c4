import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Order } from '#libs/model/order';
import { cancelled } from '#libs/model/transitions';
import type { Redis } from '../../services/lab/redis.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

let server: Redis;
let pipeline: Pipeline;

const hour = 3_600_000;
/** Calls an order off, and tells the queues as the API does. */
async function cancel(order: Order): Promise<void> {
  const saved = await pipeline.store.orders.save<Order>(order, cancelled(order, Date.now()), []);
  await pipeline.producer.enqueue(saved ?? expect.fail('it was changed meanwhile'));
}
const jobs = async () => (await pipeline.queue('validation').getJobs()).map(({ id }) => id);

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
});
afterEach(() => pipeline.close());

describe('the job of an order that is called off', () => {
  it('goes with it, however long it would have waited', async () => {
    const later = Date.now() + hour;
    const order = await pipeline.enqueue({}, (one) => ({ ...one, nextAttemptAt: later }));
    const other = await pipeline.enqueue({}, (one) => ({ ...one, nextAttemptAt: later }));
    await cancel(order);
    expect(await jobs()).toEqual([`${other.id}.validation.1`]);
  });

  it('stays with the worker that has it, and ends by itself', async () => {
    const begun = Promise.withResolvers<Order>();
    const { promise: letGo, resolve: end } = Promise.withResolvers<void>();
    pipeline.startStage('validation', async (order) => {
      begun.resolve(order);
      await letGo;
      throw new Error('it is called off meanwhile');
    });
    const { id } = await pipeline.enqueue();
    await cancel(await begun.promise);
    end();
    await pipeline.jobIn(id, 'validation', 1, 'completed');
    expect(await pipeline.read(id)).toMatchObject({ status: 'cancelled' });
  });
});
