import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CertlineError, type Plan } from '#libs/errors';
import type { IssuedOrder, Order, PendingOrder } from '#libs/model/order';
import { cancelled, deployed, issued, validated } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import { startTargetWorker } from '#libs/queues/target-worker';
import type { Redis } from '../../services/lab/redis.ts';
import { reconcile } from '../../services/scheduler/reconciler.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

let server: Redis;
let pipeline: Pipeline;
/** One for each run of the handler: one commit to a host. */
let commits: { target: string; orders: string[]; at: number }[];

const toIssued = (order: PendingOrder): Order => issued(validated(order, acmeOrder, Date.now()), 'crt_1', Date.now());
/** An order that is to be deployed on a target. */
const toDeploy = (target = 'tgt_1') => pipeline.enqueue({ deploy: { mode: 'site', target, site: 1 } }, toIssued);
const succeed = (order: IssuedOrder): TargetOutcome => ({ id: order.id, deployed: deployed(order, Date.now()) });
const fail = ({ id }: { id: string }, plan: Plan): TargetOutcome => ({
  id,
  error: new CertlineError('target_refused', 'as the test says', { plan }),
});
const isDeployed = ({ status }: Order) => status === 'deployed';

/** Starts the stage; `outcome` is asked for every order of a run, and how often the order was tried before. */
function start(outcome: (order: IssuedOrder, tries: number) => TargetOutcome | Promise<TargetOutcome> = succeed) {
  const tries = new Map<string, number>();
  return pipeline.startTargets(async (target, orders) => {
    commits.push({ target, orders: orders.map(({ id }) => id), at: Date.now() });
    const outcomes: TargetOutcome[] = [];
    for (const order of orders) {
      const before = tries.get(order.id) ?? 0;
      tries.set(order.id, before + 1);
      outcomes.push(await outcome(order, before));
    }
    return outcomes;
  });
}

/** Starts the stage twice, as two processes would, for one pool or for two; every run is held until the test lets it go on. */
function startHolding(...pools: string[]) {
  const runs: { target: string; orders: string[]; goOn: () => void }[] = [];
  const run: TargetHandler['run'] = async (target, orders, { signal }) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    runs.push({ target, orders: orders.map(({ id }) => id), goOn: resolve });
    await promise;
    return orders.map(succeed);
  };
  const [one = 'default', other = one] = pools;
  const workers = [pipeline.startTargets(run, one), pipeline.startTargets(run, other)];
  const begun = (count: number) => vi.waitUntil(() => runs.length === count, { timeout: 15_000 });
  return { runs, begun, workers };
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(() => {
  pipeline = openPipeline(server);
  commits = [];
});
afterEach(() => pipeline.close());

describe('the orders that are due on a target', () => {
  it('are deployed in one commit', async () => {
    const orders = await Promise.all(Array.from({ length: 12 }, () => toDeploy()));
    const jobs = await pipeline.queue('deployment').getJobs(['waiting']);
    expect(jobs.map(({ data }) => data)).toEqual([{ target: 'tgt_1' }]);
    start();
    for (const { id } of orders) await pipeline.until(id, isDeployed);
    expect(commits.map((one) => one.orders.toSorted())).toEqual([orders.map(({ id }) => id).toSorted()]);
    expect(await pipeline.counted('deployment')).toEqual({ 'completed none': 12 });
    expect(await pipeline.store.orders.nextDue('tgt_1')).toBeNull();
  });

  it('are deployed in one commit when they are very many', async () => {
    const orders = await Promise.all(Array.from({ length: 250 }, () => toDeploy()));
    start();
    for (const { id } of orders) await pipeline.until(id, isDeployed);
    expect(commits.map((one) => one.orders.length)).toEqual([250]);
  });

  it('are deployed in the next commit when they come while one is under way', async () => {
    const { runs, begun } = startHolding();
    const first = await toDeploy();
    await begun(1);
    const later = await Promise.all(Array.from({ length: 11 }, () => toDeploy()));
    // Another target is served meanwhile by the same workers: had they been ready to take up the first one again, they would have.
    const elsewhere = await toDeploy('tgt_2');
    await begun(2);
    runs[1]?.goOn();
    await pipeline.until(elsewhere.id, isDeployed);
    expect(runs.map(({ target }) => target)).toEqual(['tgt_1', 'tgt_2']);
    runs[0]?.goOn();
    await begun(3);
    expect(runs[2]?.orders.toSorted()).toEqual(later.map(({ id }) => id).toSorted());
    runs[2]?.goOn();
    for (const { id } of [first, ...later]) await pipeline.until(id, isDeployed);
    expect(runs).toHaveLength(3);
  });

  it('are deployed on several targets at the same time', async () => {
    const { runs, begun } = startHolding();
    const orders = await Promise.all([toDeploy('tgt_1'), toDeploy('tgt_2'), toDeploy('tgt_3')]);
    await begun(3);
    expect(runs.map(({ target }) => target).toSorted()).toEqual(['tgt_1', 'tgt_2', 'tgt_3']);
    for (const { goOn } of runs) goOn();
    for (const { id } of orders) await pipeline.until(id, isDeployed);
  });
});

describe('an order that fails on a target', () => {
  it('is tried again by itself, however long another one of the target waits', async () => {
    const later = Date.now() + 3_600_000;
    const patient = await toDeploy();
    const worker = start((order, tries) => {
      if (order.id === patient.id) return fail(order, { kind: 'wait', until: later, exact: true });
      return tries < 3 ? fail(order, { kind: 'retryable' }) : succeed(order);
    });
    await pipeline.until(patient.id, ({ nextAttemptAt }) => nextAttemptAt === later);
    const { id } = await toDeploy();
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ attempts: { deployment: 3 } });
    await worker.stop(0);
  });

  it('is deployed at once when the clock of the machine that issued it is ahead', async () => {
    const ahead = Date.now() + 600_000;
    const { id } = await pipeline.enqueue({ deploy: { mode: 'site', target: 'tgt_1', site: 1 } }, (order) =>
      issued(validated(order, acmeOrder, ahead), 'crt_1', ahead),
    );
    start();
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ error: null });
  });

  it('is not held up by one whose record cannot be read', async () => {
    const broken = await toDeploy();
    await pipeline.redis.hset(pipeline.store.keys.order(broken.id), 'document', '{"of":"another version"}');
    const { id } = await toDeploy();
    start();
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ error: null });
  });

  it('is tried again by itself at its time', async () => {
    const notBefore = Date.now() + 600;
    const { id } = await toDeploy();
    start((order, tries) => (tries === 0 ? fail(order, { kind: 'retryable', notBefore }) : succeed(order)));
    const waits = await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    expect(waits).toMatchObject({
      ...{ status: 'issued', attempts: { deployment: 1 } },
      error: { code: 'target_refused', stage: 'deployment' },
    });
    expect(waits.nextAttemptAt).toBeGreaterThanOrEqual(notBefore);
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ error: null });
    expect(commits).toHaveLength(2);
    expect(commits[1]?.at).toBeGreaterThanOrEqual(notBefore - 50);
  });

  it('comes back together with those that failed with it, in one commit', async () => {
    let draws = 0;
    // Each draw is another one: whoever drew for himself would come at a time of his own.
    pipeline.settings.random = () => (draws++ % 10) / 10;
    const orders = await Promise.all([toDeploy(), toDeploy(), toDeploy()]);
    start((order, tries) => (tries === 0 ? fail(order, { kind: 'retryable' }) : succeed(order)));
    const delays = await Promise.all(
      orders.map(async ({ id }) => {
        await pipeline.until(id, isDeployed);
        const failed = (await pipeline.store.history(id)).find(({ type }) => type === 'attempt_failed');
        return (failed?.nextAttemptAt ?? 0) - (failed?.at ?? 0);
      }),
    );
    expect(new Set(delays).size).toBe(1);
  });

  it('does not hold up the others', async () => {
    const bad = await toDeploy();
    const late = await toDeploy();
    const good = await Promise.all([toDeploy(), toDeploy()]);
    start((order) => {
      if (order.id === bad.id) return fail(order, { kind: 'permanent' });
      if (order.id === late.id) return fail(order, { kind: 'retryable', notBefore: Date.now() + 3_600_000 });
      return succeed(order);
    });
    for (const { id } of good) await pipeline.until(id, isDeployed);
    expect(await pipeline.until(bad.id, ({ status }) => status === 'failed')).toMatchObject({
      stage: 'deployment',
      certificate: 'crt_1',
      error: { code: 'target_refused' },
    });
    const more = await toDeploy();
    await pipeline.until(more.id, isDeployed);
    expect(commits.at(-1)?.orders).toEqual([more.id]);
    const values = (await pipeline.metrics.deployments.get()).values.map(({ labels, value }) => [labels.code, value]);
    expect(Object.fromEntries(values)).toEqual({ none: 3, target_refused: 2 });
  });

  it('is tried again before another one that waits for longer', async () => {
    const late = await toDeploy();
    start((order, tries) => {
      if (order.id === late.id) return fail(order, { kind: 'retryable', notBefore: Date.now() + 3_600_000 });
      return tries === 0 ? fail(order, { kind: 'retryable' }) : succeed(order);
    });
    await pipeline.until(late.id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    const soon = await toDeploy();
    await pipeline.until(soon.id, isDeployed);
    expect(commits.map(({ orders }) => orders)).toEqual([[late.id], [soon.id], [soon.id]]);
  });

  it('takes the others with it only where the handler itself throws, and each uses an attempt', async () => {
    const orders = await Promise.all([toDeploy(), toDeploy()]);
    let broken = true;
    start((order) => {
      if (!broken) return succeed(order);
      broken = false;
      throw new TypeError('x is not a function');
    });
    for (const { id } of orders)
      expect(await pipeline.until(id, isDeployed)).toMatchObject({ attempts: { deployment: 1 } });
    expect(await pipeline.counted('deployment')).toEqual({ 'retry unexpected': 2, 'completed none': 2 });
  });

  it('is off the list of its target while it is parked', async () => {
    const { id } = await toDeploy();
    start((order) => (order.id === id ? fail(order, { kind: 'park' }) : succeed(order)));
    await pipeline.until(id, ({ parkedOn }) => parkedOn !== null);
    const other = await toDeploy();
    await pipeline.until(other.id, isDeployed);
    expect(await pipeline.store.orders.nextDue('tgt_1')).toBeNull();
    expect(commits.flatMap(({ orders }) => orders)).toEqual([id, other.id]);
    const parked = await pipeline.read(id);
    const resumed = { ...parked, parkedOn: null, epoch: 2, updatedAt: Date.now() };
    await pipeline.store.orders.save(parked, resumed, []);
    expect(await pipeline.store.orders.due('tgt_1', Date.now(), 10)).toEqual([id]);
  });
});

describe('an order that is cancelled while it is deployed', () => {
  it('stays cancelled and leaves the list of its target', async () => {
    const { runs, begun } = startHolding();
    const { id } = await toDeploy();
    await begun(1);
    const order = await pipeline.read(id);
    await pipeline.store.orders.save(order, cancelled(order, Date.now()), []);
    const after = await pipeline.read(id);
    runs[0]?.goOn();
    await vi.waitUntil(async () => 'stale none' in (await pipeline.counted('deployment')));
    expect(await pipeline.read(id)).toEqual(after);
    expect(await pipeline.store.orders.nextDue('tgt_1')).toBeNull();
  });
});

describe('a target worker that is stopped', () => {
  it('hands the target back without using up an attempt', async () => {
    const { runs, begun, workers } = startHolding();
    const { id } = await toDeploy();
    await begun(1);
    await Promise.all(workers.map((worker) => worker.stop(50)));
    expect(await pipeline.queue('deployment').getJobCounts()).toMatchObject({ waiting: 1, active: 0 });
    start();
    expect(await pipeline.until(id, isDeployed)).toMatchObject({ attempts: { deployment: 0 } });
    expect(runs).toHaveLength(1);
  });
});

describe('a target of a pool', () => {
  it('is deployed on by the workers of that pool alone', async () => {
    await pipeline.putTarget('tgt_2', 'dmz');
    const taken: string[] = [];
    for (const pool of ['default', 'dmz']) {
      pipeline.startTargets(async (target, orders) => {
        taken.push(`${pool} has ${target}`);
        return orders.map(succeed);
      }, pool);
    }
    const orders = [await toDeploy('tgt_1'), await toDeploy('tgt_2')];
    for (const { id } of orders) await pipeline.until(id, isDeployed);
    expect(taken.toSorted()).toEqual(['default has tgt_1', 'dmz has tgt_2']);
  });

  it('waits for a worker of its pool', async () => {
    await pipeline.putTarget('tgt_1', 'dmz');
    start();
    const waits = await toDeploy('tgt_1');
    await pipeline.until((await toDeploy('tgt_2')).id, isDeployed);
    expect(commits.map(({ target }) => target)).toEqual(['tgt_2']);
    expect((await pipeline.queue('deployment-dmz').getJobs(['waiting'])).map(({ data }) => data)).toEqual([
      { target: 'tgt_1' },
    ]);
    pipeline.startTargets(async (_target, orders) => orders.map(succeed), 'dmz');
    await pipeline.until(waits.id, isDeployed);
  });

  it('is woken in its new pool when it was moved before a worker of the old one took it', async () => {
    const { id } = await toDeploy('tgt_1');
    await pipeline.putTarget('tgt_1', 'dmz');
    const moved = vi.fn<TargetHandler['run']>(async (_target, orders) => orders.map(succeed));
    pipeline.startTargets(moved, 'dmz');
    start();
    await pipeline.until(id, isDeployed);
    expect(moved).toHaveBeenCalledTimes(1);
    expect(commits).toEqual([]);
  });

  it('is woken in its new pool when it was moved while it waited for its time', async () => {
    const worker = start((order) => fail(order, { kind: 'wait', until: Date.now() + 800 }));
    const { id } = await toDeploy('tgt_1');
    await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    await vi.waitUntil(async () => (await pipeline.queue('deployment').getDelayedCount()) === 1);
    await pipeline.putTarget('tgt_1', 'dmz');
    pipeline.startTargets(async (_target, orders) => orders.map(succeed), 'dmz');
    await pipeline.until(id, isDeployed);
    expect(commits).toHaveLength(1);
    await worker.stop(0);
  });

  it('goes on in its new pool though no worker of the old one is left', async () => {
    const { id } = await toDeploy('tgt_1');
    await pipeline.putTarget('tgt_1', 'dmz');
    pipeline.startTargets(async (_target, orders) => orders.map(succeed), 'dmz');
    const { store, producer, resources } = pipeline;
    const later = { ...resources.clock, now: () => Date.now() + 60_000 };
    await reconcile({ orders: store.orders, producer, leases: store.leases, clock: later, log: resources.log });
    await pipeline.until(id, isDeployed);
  });

  it('is deployed on by one worker at a time when it is moved meanwhile', async () => {
    await pipeline.putTarget('tgt_1', 'default');
    await pipeline.putTarget('tgt_2', 'dmz');
    const { runs, begun } = startHolding('default', 'dmz');
    const first = await toDeploy('tgt_1');
    await begun(1);
    await pipeline.putTarget('tgt_1', 'dmz');
    const second = await toDeploy('tgt_1');
    // The new pool has seen the target, and serves another one meanwhile.
    await vi.waitUntil(async () => (await pipeline.queue('deployment-dmz').getDelayedCount()) === 1);
    const elsewhere = await toDeploy('tgt_2');
    await begun(2);
    expect(runs.map(({ target }) => target)).toEqual(['tgt_1', 'tgt_2']);
    for (const { goOn } of runs) goOn();
    for (const { id } of [first, elsewhere]) await pipeline.until(id, isDeployed);
    await begun(3);
    expect(runs[2]?.orders).toEqual([second.id]);
    runs[2]?.goOn();
    await pipeline.until(second.id, isDeployed);
  });

  it('is free again soon after the worker that had it died', async () => {
    await pipeline.putTarget('tgt_1', 'dmz');
    // What a killed worker of the old pool leaves.
    const { redis, store } = pipeline;
    await redis.set(store.keys.lease('deployment.tgt_1'), 'dead', 'PX', 1_500);
    pipeline.startTargets(async (_target, orders) => orders.map(succeed), 'dmz');
    const { id } = await toDeploy('tgt_1');
    await vi.waitUntil(async () => (await pipeline.queue('deployment-dmz').getDelayedCount()) === 1);
    await pipeline.until(id, isDeployed);
    // Whoever has deployed lets go of it after the save that says so.
    await vi.waitUntil(async () => (await redis.exists(store.keys.lease('deployment.tgt_1'))) === 0);
  });

  it('is let go of by a worker that was silent until another one had it', async () => {
    await pipeline.close();
    pipeline = openPipeline(server, { lockDuration: 1_500 });
    const reasons: string[] = [];
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    pipeline.startTargets(async (_target, orders, { signal }) => {
      resolve();
      await new Promise((gone) => signal.addEventListener('abort', gone, { once: true }));
      reasons.push(String(signal.reason));
      signal.throwIfAborted();
      return orders.map(succeed);
    });
    const { id } = await toDeploy('tgt_1');
    await begun;
    const { redis, store } = pipeline;
    await redis.set(store.keys.lease('deployment.tgt_1'), 'another worker');
    await vi.waitUntil(() => reasons.length === 1, { timeout: 10_000 });
    expect(reasons).toEqual(['Error: somebody else holds deployment.tgt_1']);
    await vi.waitUntil(async () => (await pipeline.queue('deployment').getCompletedCount()) === 1);
    expect(await pipeline.read(id)).toMatchObject({ status: 'issued', attempts: { deployment: 0 }, error: null });
    expect(await redis.get(store.keys.lease('deployment.tgt_1'))).toBe('another worker');
  });

  it('that is unknown goes to the default pool', async () => {
    const { id } = await toDeploy('tgt_unknown');
    pipeline.startTargets(async (_target, orders) =>
      orders.map((order) => ({ id: order.id, error: new CertlineError('target_unknown', 'there is none') })),
    );
    await pipeline.until(id, ({ status }) => status === 'failed');
  });
});

describe('a target on which an earlier run left something', () => {
  const wakes = async () => (await pipeline.queue('deployment').getDelayed()).map(({ delay }) => delay);
  const ended = (count: number) =>
    vi.waitUntil(async () => (await pipeline.queue('deployment').getCompletedCount()) === count, { timeout: 15_000 });
  /** The stage with a handler that can tell what is left; answers how often it was asked, and the orders of its runs. */
  async function startTelling(isLeft: () => boolean, run: () => Promise<void> = async () => {}) {
    const seen = { asked: 0, runs: [] as string[][] };
    const handler: TargetHandler = {
      async run(_target, orders) {
        seen.runs.push(orders.map(({ id }) => id));
        await run();
        return orders.map(succeed);
      },
      async unsettled() {
        seen.asked += 1;
        return isLeft();
      },
    };
    const worker = startTargetWorker(handler, pipeline.settings, 'default');
    return { seen, worker };
  }

  it('is run on when it is woken, though no order is due', async () => {
    let left = true;
    const { seen, worker } = await startTelling(
      () => left,
      async () => {
        left = false;
      },
    );
    await pipeline.producer.wakeTarget('tgt_1');
    await ended(1);
    expect(seen.runs).toEqual([[]]);
    expect(await wakes()).toEqual([]);
    // Nothing is left now: that is asked once, and costs no run.
    seen.asked = 0;
    await pipeline.producer.wakeTarget('tgt_1');
    await ended(2);
    expect(seen).toEqual({ asked: 1, runs: [[]] });
    await worker.stop(0);
  });

  it.each(['ends', 'fails'])(
    'is woken again after a minute when a run %s that could not make up for it',
    async (how) => {
      const { seen, worker } = await startTelling(
        () => true,
        async () => {
          if (how === 'fails') throw new CertlineError('target_unreachable', 'no route to host');
        },
      );
      await pipeline.producer.wakeTarget('tgt_1');
      await ended(1);
      expect(seen.runs).toEqual([[]]);
      const [delay = 0, ...more] = await wakes();
      expect(more).toEqual([]);
      expect(delay).toBeGreaterThan(50_000);
      expect(delay).toBeLessThanOrEqual(60_000);
      await worker.stop(0);
    },
  );

  it('does not wait for an order that is due much later', async () => {
    const worker = await startTelling(
      () => true,
      async () => {
        throw new CertlineError('target_unreachable', 'no route', {
          plan: { kind: 'wait', until: Date.now() + 3_600_000 },
        });
      },
    );
    const { id } = await toDeploy();
    await pipeline.until(id, ({ nextAttemptAt }) => nextAttemptAt !== null);
    await ended(1);
    const [delay = 0] = await wakes();
    expect(delay).toBeGreaterThan(50_000);
    expect(delay).toBeLessThanOrEqual(60_000);
    await worker.worker.stop(0);
  });
});
