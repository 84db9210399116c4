import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { IssuedOrder, Order, PendingOrder } from '#libs/model/order';
import { cancelled, deployed, issued, validated } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import { startRolloutWorker } from '#libs/queues/rollout-worker';
import type { RunningWorker } from '#libs/queues/worker';
import { type OrderEvent, readHistory } from '#libs/store/order-events';
import type { Redis } from '../../services/lab/redis.ts';
import { reconcile } from '../../services/scheduler/reconciler.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

let server: Redis;
let pipeline: Pipeline;
let rollouts: RunningWorker[];
const minute = 60_000;

const toIssued = (order: PendingOrder): Order => issued(validated(order, acmeOrder, Date.now()), 'crt_1', Date.now());
/** An order that is to be deployed on a target, with its job. */
const toDeploy = (target = 'tgt_1', change = toIssued) =>
  pipeline.enqueue({ deploy: { mode: 'site', target, site: 1 } }, change);
const succeed = (order: IssuedOrder): TargetOutcome => ({ id: order.id, deployed: deployed(order, Date.now()) });
const succeedAll: TargetHandler['run'] = async (_target, orders) => orders.map(succeed);
const isDeployed = ({ status }: Order) => status === 'deployed';
const unserved = (pool: string, target = 'tgt_1') => ({
  code: 'pool_unserved',
  stage: 'deployment',
  detail: `no deployment worker serves pool ${pool}, the one of ${target} (DEPLOYMENT_POOLS)`,
});

/** One round of the scheduler, as it would be some time later. */
const look = (laterMs: number): Promise<number> => {
  const { store, producer, resources } = pipeline;
  const clock = { ...resources.clock, now: () => Date.now() + laterMs };
  return reconcile({ orders: store.orders, producer, leases: store.leases, clock, log: resources.log });
};
const waits = async (id: string): Promise<OrderEvent[]> => {
  const events = await readHistory(pipeline.redis, pipeline.store.keys, id);
  return events.filter(({ type }) => type === 'stage_waiting');
};
function startRollouts(): void {
  rollouts.push(startRolloutWorker(pipeline.settings));
}
/** A worker whose runs are held until the test lets them go on. */
function startHolding(pool?: string) {
  const runs: { orders: readonly IssuedOrder[]; goOn: () => void }[] = [];
  pipeline.startTargets(async (_target, orders, { signal }) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    runs.push({ orders, goOn: resolve });
    await promise;
    return orders.map(succeed);
  }, pool);
  return { runs, begun: (count: number) => vi.waitUntil(() => runs.length === count, { timeout: 15_000 }) };
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  rollouts = [];
  await pipeline.putTarget('tgt_1', 'dmz');
});
afterEach(async () => {
  await Promise.all(rollouts.map((worker) => worker.stop(0)));
  await pipeline.close();
});

describe('an order for a pool that no worker serves', () => {
  it('says so after a minute, once, and is deployed as soon as a worker comes', async () => {
    pipeline.startTargets(succeedAll, 'default');
    const { id } = await toDeploy();
    await look(minute - 10_000);
    expect((await pipeline.read(id)).error).toBeNull();
    await look(minute + 10_000);
    expect(await pipeline.read(id)).toMatchObject({
      ...{ status: 'issued', error: unserved('dmz'), nextAttemptAt: null, attempts: { deployment: 0 } },
    });
    for (let minutes = 2; minutes < 10; minutes += 1) await look(minutes * minute);
    expect(await waits(id)).toMatchObject([{ status: 'issued', ...unserved('dmz') }]);
    pipeline.startTargets(succeedAll, 'dmz');
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ error: null, attempts: { deployment: 0 } });
  });

  it('has no error any more from the moment a worker has it', async () => {
    const { id } = await toDeploy();
    await look(2 * minute);
    const { runs, begun } = startHolding('dmz');
    await begun(1);
    expect(runs[0]?.orders).toMatchObject([{ id, error: null }]);
    expect(await pipeline.read(id)).toMatchObject({ status: 'issued', error: null });
    runs[0]?.goOn();
    await pipeline.until(id, isDeployed);
  });

  it('says so from a minute after its next attempt is due, in place of its last error', async () => {
    const nextAttemptAt = Date.now() + 60 * minute;
    const error = { code: 'target_refused', detail: 'as the test says', stage: 'deployment', at: 0 } as const;
    const attempts = { validation: 0, issuance: 0, deployment: 3 };
    const { id } = await toDeploy('tgt_1', (order) => ({ ...toIssued(order), error, attempts, nextAttemptAt }));
    await look(60 * minute + 30_000);
    expect((await pipeline.read(id)).error).toEqual(error);
    await look(62 * minute);
    expect(await pipeline.read(id)).toMatchObject({ error: unserved('dmz'), attempts, nextAttemptAt });
  });

  it('goes on when its target is moved to a pool that has a worker', async () => {
    const { id } = await toDeploy();
    await look(2 * minute);
    pipeline.startTargets(succeedAll, 'default');
    await pipeline.putTarget('tgt_1', 'default');
    await look(3 * minute);
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ error: null });
  });

  it('names the new pool when its target is moved to another one without a worker', async () => {
    const { id } = await toDeploy();
    await look(2 * minute);
    await pipeline.putTarget('tgt_1', 'web01');
    await look(4 * minute);
    expect((await pipeline.read(id)).error).toMatchObject(unserved('web01'));
    expect(await waits(id)).toMatchObject([unserved('dmz'), unserved('web01')]);
  });

  it('says so once when two schedulers look at the same moment', async () => {
    const { id } = await toDeploy();
    await Promise.all([look(2 * minute), look(2 * minute), look(2 * minute)]);
    expect(await waits(id)).toHaveLength(1);
  });

  it('can be called off', async () => {
    const { id } = await toDeploy();
    await look(2 * minute);
    const order = await pipeline.read(id);
    expect(await pipeline.store.orders.save(order, cancelled(order, Date.now()), [])).not.toBeNull();
    await look(4 * minute);
    pipeline.startTargets(succeedAll, 'dmz');
    const other = await toDeploy();
    await pipeline.until(other.id, isDeployed);
    expect(await pipeline.read(id)).toMatchObject({ status: 'cancelled', error: unserved('dmz') });
  });

  it('is not disturbed while a worker of the former pool of its target deploys it', async () => {
    await pipeline.putTarget('tgt_1', 'default');
    const { runs, begun } = startHolding('default');
    const { id } = await toDeploy();
    await begun(1);
    await pipeline.putTarget('tgt_1', 'dmz');
    await look(10 * minute);
    expect((await pipeline.read(id)).error).toBeNull();
    runs[0]?.goOn();
    await pipeline.until(id, isDeployed);
  });
});

describe('a pool', () => {
  it('is served while its workers are started anew', async () => {
    await pipeline.startTargets(succeedAll, 'dmz').stop(0);
    const { id } = await toDeploy();
    await look(10 * minute);
    expect((await pipeline.read(id)).error).toBeNull();
    pipeline.startTargets(succeedAll, 'dmz');
    await pipeline.until(id, isDeployed);
  });

  it('is served by a worker that has all its hands full', async () => {
    const { begun } = startHolding('dmz');
    await toDeploy();
    await begun(1);
    // The same target: it waits for the commit under way.
    const { id } = await toDeploy();
    await look(10 * minute);
    expect((await pipeline.read(id)).error).toBeNull();
  });

  it('is served for as long as its worker lives, and not much longer', async () => {
    await pipeline.close();
    pipeline = openPipeline(server, { pulse: { everyMs: 20, lifeMs: 300 } });
    await pipeline.putTarget('tgt_1', 'dmz');
    const { producer, redis, settings } = pipeline;
    const isServed = () => producer.isServed('deployment-dmz');
    expect(await isServed()).toBe(false);
    const worker = pipeline.startTargets(succeedAll, 'dmz');
    await vi.waitUntil(isServed, { timeout: 15_000 });
    // Said again, not only once.
    await redis.del(`${settings.prefix}:served:deployment-dmz`);
    await vi.waitUntil(isServed, { timeout: 15_000 });
    await worker.stop(0);
    await vi.waitUntil(async () => !(await isServed()), { timeout: 15_000 });
    const { id } = await toDeploy();
    await look(2 * minute);
    expect((await pipeline.read(id)).error).toMatchObject(unserved('dmz'));
  });
});

describe('a rollout', () => {
  const inWaves = (...waves: string[][]) =>
    pipeline.enqueue(
      {
        deploy: {
          mode: 'rollout',
          waves: waves.map((wave) => wave.map((target) => ({ mode: 'site', target, site: 1 }))),
        },
      },
      (order) => ({ ...toIssued(order), deployments: order.deployments }),
    );
  const partOf = async (id: string): Promise<Order> => {
    await pipeline.until(id, ({ deployments: [first] }) => first?.order !== null);
    const [first] = (await pipeline.read(id)).deployments;
    await vi.waitUntil(() => pipeline.store.orders.get(first?.order ?? ''));
    return pipeline.read(first?.order ?? '');
  };

  it('that no worker begins says so, until one does', async () => {
    const { id } = await inWaves(['tgt_1']);
    await look(2 * minute);
    const detail = 'no deployment worker runs (any of them begins rollouts)';
    expect((await pipeline.read(id)).error).toMatchObject({ code: 'pool_unserved', detail });
    startRollouts();
    await partOf(id);
    expect(await pipeline.read(id)).toMatchObject({ status: 'issued', error: null });
  });

  it('that was left without a worker under way has no error any more when one comes, though nothing else is new', async () => {
    const { id } = await inWaves(['tgt_1']);
    startRollouts();
    await partOf(id);
    await rollouts.pop()?.stop(0);
    await pipeline.redis.del(`${pipeline.settings.prefix}:served:rollout`);
    await look(2 * minute);
    expect((await pipeline.read(id)).error).toMatchObject({ code: 'pool_unserved' });
    startRollouts();
    await look(3 * minute);
    await pipeline.until(id, ({ error }) => error === null);
  });

  it('has an order for the target whose pool is not served that says so, and is complete when a worker comes', async () => {
    startRollouts();
    const { id } = await inWaves(['tgt_1']);
    const part = await partOf(id);
    await look(2 * minute);
    expect(await pipeline.read(part.id)).toMatchObject({ partOf: id, error: unserved('dmz') });
    expect((await pipeline.read(id)).error).toBeNull();
    pipeline.startTargets(succeedAll, 'dmz');
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ error: null });
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'deployed', error: null });
  });

  it('that is called off takes the order with it that waits for a worker', async () => {
    startRollouts();
    const { id } = await inWaves(['tgt_1']);
    const part = await partOf(id);
    await look(2 * minute);
    const whole = await pipeline.read(id);
    const off = await pipeline.store.orders.save(whole, cancelled(whole, Date.now()), []);
    if (off) await pipeline.producer.enqueue(off);
    await pipeline.until(part.id, ({ status }) => status === 'cancelled');
  });
});
