import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CertlineError } from '#libs/errors';
import { newId } from '#libs/model/ids';
import type { IssuedOrder, Order, StageName } from '#libs/model/order';
import { nextOfRollout } from '#libs/model/rollout';
import { cancelled, deployed, failed, orderError, retried } from '#libs/model/transitions';
import type { TargetOutcome } from '#libs/queues/handler';
import { deploymentLease } from '#libs/queues/stages';
import type { Redis } from '../../services/lab/redis.ts';
import { type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { openRollouts, type Rollouts } from '../support/rollouts.ts';

/** What becomes of the parts of a rollout that is called off, wherever they are. */
const patience = { timeout: 15_000, interval: 20 };
let server: Redis;
let rollouts: Rollouts;
let pipeline: Pipeline;
/** Orders that were deployed, or begun to be. */
let handled: string[];
/** Lets the worker that is held go on. */
let letGo: () => void;

const stage: StageName = 'deployment';
const succeed = (order: IssuedOrder): TargetOutcome => ({ id: order.id, deployed: deployed(order, Date.now()) });
const until = (id: string, ...deployments: string[]) =>
  vi.waitFor(async () => expect(await rollouts.deployments(id)).toEqual(deployments), patience);
const hasEnded = ({ status }: Order) => status !== 'issued';

async function save<T extends Order>(order: Order, next: T): Promise<T> {
  const saved = await pipeline.store.orders.save(order, next, []);
  if (saved === null) throw new Error(`${order.id} was changed meanwhile`);
  return saved;
}
/** Calls an order off as a process does that dies before it tells anybody. */
const cancel = async (id: string): Promise<Order> => {
  const order = await pipeline.read(id);
  return save(order, cancelled(order, Date.now()));
};
const tell = (order: Order) => pipeline.producer.enqueue(order);
/** Starts the deployment stage; each run is held until the test lets it go on with this outcome. */
function startHolding(outcome: (order: IssuedOrder) => TargetOutcome) {
  const { promise, resolve } = Promise.withResolvers<void>();
  letGo = resolve;
  pipeline.startTargets(async (_target, orders) => {
    handled.push(...orders.map(({ id }) => id));
    await promise;
    return orders.map(outcome);
  });
  return resolve;
}
/** A rollout over `tgt_a` and then `tgt_b`, with the order of the first one. */
async function begun(): Promise<{ id: string; part: Order }> {
  const { id } = await rollouts.enqueue('crt_1', ['tgt_a'], ['tgt_b']);
  const worker = rollouts.startRollouts();
  await vi.waitFor(async () => expect(await rollouts.parts(id)).toHaveLength(1), patience);
  await worker.stop(0);
  const [part] = await rollouts.parts(id);
  if (part === undefined) throw new Error('it has no part');
  return { id, part };
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  rollouts = openRollouts(server);
  pipeline = rollouts.pipeline;
  handled = [];
  letGo = () => {};
});
afterEach(async () => {
  letGo();
  await rollouts.close();
});

describe('when a rollout is called off', () => {
  it('what it had not placed yet is not placed any more', async () => {
    const whole = (await rollouts.place('crt_1', ['tgt_a'], ['tgt_b'])) as IssuedOrder;
    const { order } = nextOfRollout(whole, new Map(), Date.now(), () => newId('order', Date.now()));
    await save(whole, order);
    await tell(await cancel(whole.id));
    rollouts.startRollouts();
    await until(whole.id, 'tgt_a cancelled', 'tgt_b cancelled');
    const { deployments } = await pipeline.read(whole.id);
    expect(deployments.map((one) => one.order)).toEqual([null, null]);
    expect(await pipeline.store.orders.get(order.deployments[0]?.order ?? '')).toBeNull();
    expect(await pipeline.store.orders.unfinishedAt('tgt_a')).toEqual([]);
  });

  it('a part that is not begun is called off with it, and says why', async () => {
    const { id, part } = await begun();
    await tell(await cancel(id));
    rollouts.startRollouts();
    await until(id, 'tgt_a cancelled', 'tgt_b cancelled');
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'cancelled', stage, certificate: 'crt_1' });
    expect((await rollouts.history(part.id)).at(-1)).toBe('order_cancelled: its rollout was called off');
    expect(await pipeline.store.orders.nextDue('tgt_a')).toBeNull();
  });

  it('a part that is held for its account is called off with it', async () => {
    const { id, part } = await begun();
    await save(part, { ...part, parkedOn: 'acc_1' });
    await tell(await cancel(id));
    rollouts.startRollouts();
    await until(id, 'tgt_a cancelled', 'tgt_b cancelled');
    expect(await pipeline.store.orders.parked('acc_1')).toEqual([]);
  });

  it('a part that no worker came for is called off', async () => {
    const { id, part } = await begun();
    // As the reconciler leaves it: nobody has the target.
    await save(part, { ...part, error: orderError(new CertlineError('pool_unserved', 'none'), stage, Date.now()) });
    await tell(await cancel(id));
    rollouts.startRollouts();
    await until(id, 'tgt_a cancelled', 'tgt_b cancelled');
  });

  it('a part whose worker died is brought to its end: the target may have the certificate already', async () => {
    const { id, part } = await begun();
    // As a worker leaves it that was killed; it may have committed before.
    await save(part, { ...part, startedAt: Date.now() });
    await tell(await cancel(id));
    rollouts.startRollouts();
    await vi.waitUntil(async () => (await pipeline.queue('rollout').getCompletedCount()) >= 2, patience);
    expect(await rollouts.deployments(id)).toEqual(['tgt_a under way', 'tgt_b cancelled']);
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'issued' });
    startHolding(succeed)();
    await rollouts.reconcile();
    await until(id, 'tgt_a deployed', 'tgt_b cancelled');
    expect(await pipeline.read(id)).toMatchObject({ status: 'cancelled' });
    expect(handled).toEqual([part.id]);
  });

  it('a part whose end nobody was told of is heard of by the next round of the reconciler, and then no more', async () => {
    const { id, part } = await begun();
    const inHand = await save(part, { ...part, startedAt: Date.now() } as IssuedOrder);
    await cancel(id);
    const { orders } = pipeline.store;
    const open = async () => (await orders.overdue(Date.now() + 3_600_000, 100)).includes(id);
    // Saved by a worker that was killed before it said so.
    await save(inHand, deployed(inHand, Date.now()));
    expect(await rollouts.deployments(id)).toEqual(['tgt_a under way', 'tgt_b cancelled']);
    expect(await open()).toBe(true);
    rollouts.startRollouts();
    await rollouts.reconcile();
    await until(id, 'tgt_a deployed', 'tgt_b cancelled');
    expect(await open()).toBe(false);
  });

  it('a part that waits behind the work of others on its target is called off', async () => {
    const { id, part } = await begun();
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const held = pipeline.store.leases.hold(deploymentLease('tgt_a'), 5_000, () => released);
    await tell(await cancel(id));
    rollouts.startRollouts();
    await until(id, 'tgt_a cancelled', 'tgt_b cancelled');
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'cancelled' });
    release();
    await held;
  });

  it('a part that is being deployed comes to its end: its order says what the target has', async () => {
    const { id, part } = await begun();
    const goOn = startHolding(succeed);
    await vi.waitUntil(() => handled.length === 1, patience);
    await tell(await cancel(id));
    rollouts.startRollouts();
    await vi.waitUntil(async () => (await pipeline.queue('rollout').getCompletedCount()) >= 2, patience);
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'issued' });
    goOn();
    await until(id, 'tgt_a deployed', 'tgt_b cancelled');
    expect(await pipeline.read(id)).toMatchObject({ status: 'cancelled' });
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'deployed' });
    expect(handled).toEqual([part.id]);
  });

  it('a part that is being deployed and fails is not tried again', async () => {
    const { id, part } = await begun();
    const plan = { kind: 'retryable', notBefore: Date.now() + 3_600_000 } as const;
    const goOn = startHolding((order) => ({
      id: order.id,
      error: new CertlineError('target_refused', 'no', { plan }),
    }));
    await vi.waitUntil(() => handled.length === 1, patience);
    await tell(await cancel(id));
    rollouts.startRollouts();
    await vi.waitUntil(async () => (await pipeline.queue('rollout').getCompletedCount()) >= 2, patience);
    goOn();
    await until(id, 'tgt_a cancelled', 'tgt_b cancelled');
    expect(await pipeline.read(part.id)).toMatchObject({ status: 'cancelled', error: { code: 'target_refused' } });
  });
});

describe('an order of a rollout is called off when its turn comes', () => {
  const callsOff = async (part: Order): Promise<void> => {
    startHolding(succeed)();
    await tell(part);
    expect(await pipeline.until(part.id, hasEnded)).toMatchObject({ status: 'cancelled', stage });
    expect(handled).toEqual([]);
    expect((await rollouts.history(part.id)).at(-1)).toMatch(
      /^order_cancelled: its rollout was called off, or goes on/,
    );
    expect(await pipeline.store.orders.unfinishedAt('tgt_a')).not.toContain(part.id);
  };

  it('when nobody was told that the rollout was called off; then the rollout is told', async () => {
    const { id, part } = await begun();
    await cancel(id);
    await callsOff(part);
    rollouts.startRollouts();
    await until(id, 'tgt_a cancelled', 'tgt_b cancelled');
  });

  it('when the rollout is gone', async () => {
    const { id, part } = await begun();
    await pipeline.redis.del(pipeline.store.keys.order(id));
    await callsOff(part);
  });

  it('when the rollout has another order for the target', async () => {
    const { id, part } = await begun();
    const whole = await pipeline.read(id);
    const error = orderError(new CertlineError('target_refused', 'no'), stage, Date.now());
    const stopped = await save(whole, failed(whole, stage, error, Date.now()));
    await save(stopped, retried(stopped, stage, Date.now()));
    await callsOff(part);
    expect(await rollouts.deployments(id)).toEqual(['tgt_a waiting', 'tgt_b waiting']);
  });

  it('but not when the rollout goes on, or has only failed: one target may be taken up again by itself', async () => {
    const { id, part } = await begun();
    const whole = await pipeline.read(id);
    const error = orderError(new CertlineError('target_refused', 'no'), stage, Date.now());
    const lost = await save(part, failed(part, stage, error, Date.now()));
    await save(whole, failed(whole, stage, error, Date.now()));
    const again = await save(lost, retried(lost, stage, Date.now()));
    startHolding(succeed)();
    rollouts.startRollouts();
    await tell(again);
    await until(id, 'tgt_a deployed', 'tgt_b waiting');
    expect(await pipeline.read(id)).toMatchObject({ status: 'failed', error: { code: 'target_refused' } });
  });
});
