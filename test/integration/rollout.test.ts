import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Certificate } from '#libs/model/certificate';
import type { MaintenanceWindow } from '#libs/model/maintenance-window';
import type { FailedOrder, Order } from '#libs/model/order';
import { cancelled, retried } from '#libs/model/transitions';
import { releaseWaiting } from '../../services/api/waiting-orders.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { openRollouts, type Rollouts } from '../support/rollouts.ts';

/** A certificate for several hosts, wave after wave, on real hosts of the lab. */
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
const patience = { timeout: 15_000, interval: 20 };
let server: Redis;
let rollouts: Rollouts;
let certificate: Certificate;

const hasEnded = ({ status }: Order) => status !== 'issued';
const ended = (id: string) => rollouts.pipeline.until(id, hasEnded);
const addHosts = (...words: string[]) => Promise.all(words.map((word) => rollouts.addHost(word)));
const served = (...targets: string[]) => Promise.all(targets.map((target) => rollouts.served(target)));
const until = (id: string, ...deployments: string[]) =>
  vi.waitFor(async () => expect(await rollouts.deployments(id)).toEqual(deployments), patience);
/** Saves a change by hand with its job, as the API does. */
async function change<T extends Order>(id: string, next: (order: T) => Order): Promise<Order> {
  const { store, producer } = rollouts.pipeline;
  const order = (await rollouts.pipeline.read(id)) as T;
  const saved = await store.orders.save(order, next(order), []);
  if (saved === null) throw new Error(`${id} is being changed`);
  await producer.enqueue(saved);
  return saved;
}
const retry = (id: string, from: 'validation' | 'deployment' = 'deployment') =>
  change<FailedOrder>(id, (order) => retried(order, from, Date.now()));
const cancel = (id: string) => change(id, (order) => cancelled(order, Date.now()));
const start = () => [rollouts.startTargets(), rollouts.startRollouts()];

/** Orders whose time was measured, by how they ended. */
async function orderEnds(): Promise<Record<string, number>> {
  const { values } = await rollouts.pipeline.metrics.orderDuration.get();
  const counts = values.filter(({ metricName }) => metricName?.endsWith('_count'));
  return Object.fromEntries(counts.map(({ labels, value }) => [labels.outcome, value]));
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  rollouts = openRollouts(server);
  certificate = await rollouts.certificate();
});
afterEach(() => rollouts.close());

describe('a rollout', () => {
  it('goes from wave to wave, each when every target of the one before is deployed', async () => {
    await addHosts('a', 'b', 'c', 'd', 'e');
    await rollouts.faults('tgt_c', { unreachable: true });
    const waves = [['tgt_a'], ['tgt_b', 'tgt_c'], ['tgt_d', 'tgt_e']];
    const { id } = await rollouts.enqueue(certificate.id, ...waves);
    start();

    await until(id, 'tgt_a deployed', 'tgt_b deployed', 'tgt_c under way', 'tgt_d waiting', 'tgt_e waiting');
    expect((await rollouts.parts(id)).map(({ request }) => request.deploy)).toMatchObject([
      ...[{ target: 'tgt_a' }, { target: 'tgt_b' }, { target: 'tgt_c' }],
    ]);
    const { thumbprint } = certificate;
    await rollouts.faults('tgt_c', { unreachable: false });
    expect(await ended(id)).toMatchObject({ status: 'deployed', certificate: certificate.id, error: null });
    expect(await served(...waves.flat())).toEqual(Array(5).fill(thumbprint));
    for (const target of waves.flat()) expect(await rollouts.commits(target)).toBe(1);

    const parts = await rollouts.parts(id);
    expect(parts).toMatchObject(waves.flat().map((target) => ({ partOf: id, request: { deploy: { target } } })));
    for (const [at, { createdAt }] of parts.entries()) {
      const before = parts.slice(0, [0, 1, 1, 3, 3][at]);
      for (const one of before) expect(createdAt).toBeGreaterThanOrEqual(one.updatedAt);
    }
  });

  it('tells in its history what happened, and of its end once', async () => {
    await addHosts('a', 'b');
    const { id } = await rollouts.enqueue(certificate.id, ['tgt_a'], ['tgt_b']);
    start();
    await ended(id);
    expect(await rollouts.history(id)).toEqual([
      'order_placed',
      'stage_progress: wave 1 of 2 begins: 1 target',
      'stage_progress: wave 1: tgt_a deployed',
      'stage_progress: wave 2 of 2 begins: 1 target',
      'stage_progress: wave 2: tgt_b deployed',
      'stage_completed',
      'order_completed',
    ]);
    expect(await orderEnds()).toEqual({ complete: 1 });
    expect(await rollouts.pipeline.counted('deployment')).toEqual({ 'completed none': 2 });
  });

  it('waits for a host that is away, however often it is tried', async () => {
    await addHosts('a', 'b');
    await rollouts.faults('tgt_a', { unreachable: true });
    const { id } = await rollouts.enqueue(certificate.id, ['tgt_a'], ['tgt_b']);
    start();
    await vi.waitFor(
      async () =>
        expect(await rollouts.parts(id)).toMatchObject([{ error: { code: 'target_unreachable' }, status: 'issued' }]),
      patience,
    );
    const [part] = await rollouts.parts(id);
    await rollouts.pipeline.until(part?.id ?? '', ({ attempts }) => attempts.deployment >= 2);
    expect(await rollouts.pipeline.read(id)).toMatchObject({ status: 'issued', error: null });
    await rollouts.faults('tgt_a', { unreachable: false });
    expect(await ended(id)).toMatchObject({ status: 'deployed' });
  });

  it('is not given up however long it waits for the maintenance windows of its targets: only its parts have a deadline', async () => {
    await addHosts('a', 'b');
    const { store, producer } = rollouts.pipeline;
    const days = [weekdays[(new Date().getUTCDay() + 3) % 7] ?? 'sun'];
    const windows: MaintenanceWindow[] = [{ days, from: '10:00', to: '11:00', timeZone: 'UTC' }];
    await store.targets.update('tgt_b', (target) => ({ ...target, windows }));
    const longAgo = Date.now() - 90 * 86_400_000;
    const { id } = await rollouts.place(certificate.id, ['tgt_a'], ['tgt_b']);
    await change(id, (order) => ({ ...order, createdAt: longAgo, updatedAt: longAgo, stageSince: longAgo }));
    start();
    await vi.waitFor(
      async () =>
        expect((await rollouts.parts(id))[1]).toMatchObject({ status: 'issued', error: { code: 'outside_window' } }),
      patience,
    );
    await rollouts.reconcile();
    await vi.waitUntil(
      async () => (await rollouts.pipeline.queue('rollout').getJobCountByTypes('waiting', 'active')) === 0,
      patience,
    );
    expect(await rollouts.pipeline.read(id)).toMatchObject({ status: 'issued', error: null, stageSince: longAgo });

    await store.targets.update('tgt_b', (target) => ({ ...target, windows: [] }));
    await releaseWaiting(store.orders, 'tgt_b', Date.now());
    await producer.wakeTarget('tgt_b');
    expect(await ended(id)).toMatchObject({ status: 'deployed' });
  });
});

describe('a rollout with a target that fails for good', () => {
  /** Waves of one, three and one; in the second one `tgt_c` has no such site, and `tgt_d` is away. */
  async function stopped(): Promise<string> {
    await addHosts('a', 'b', 'c', 'd', 'e');
    await rollouts.faults('tgt_d', { unreachable: true });
    const { id } = await rollouts.enqueue(certificate.id, ['tgt_a'], ['tgt_b', 'tgt_c/9', 'tgt_d'], ['tgt_e']);
    start();
    await until(id, 'tgt_a deployed', 'tgt_b deployed', 'tgt_c failed', 'tgt_d under way', 'tgt_e waiting');
    return id;
  }

  it('says so while others of the wave are under way, lets them come to their end, and begins no other', async () => {
    const id = await stopped();
    expect(await rollouts.pipeline.read(id)).toMatchObject({ status: 'issued', error: { code: 'site_not_found' } });
    await rollouts.faults('tgt_d', { unreachable: false });
    const order = await ended(id);
    const failedPart = order.deployments[2]?.order;
    expect(order).toMatchObject({ status: 'failed', stage: 'deployment', certificate: certificate.id });
    expect(order.error).toMatchObject({ code: 'site_not_found', evidence: { wave: 2, orders: [failedPart] } });
    expect(order.error?.detail).toContain(`wave 2: tgt_c failed (${failedPart}, site_not_found: `);
    expect(order.error?.detail).toMatch(/; 3 of 5 targets have the certificate, 1 not begun$/);
    expect(await rollouts.deployments(id)).toEqual([
      ...['tgt_a deployed', 'tgt_b deployed', 'tgt_c failed', 'tgt_d deployed', 'tgt_e waiting'],
    ]);
    expect(await served('tgt_a', 'tgt_d', 'tgt_c', 'tgt_e')).toEqual([
      ...[certificate.thumbprint, certificate.thumbprint, null, null],
    ]);
    expect((await rollouts.history(id)).at(-1)).toBe(`order_failed: ${order.error?.detail}`);
    expect(await rollouts.parts(id)).toHaveLength(4);
    expect(await orderEnds()).toEqual({ failed: 1 });
  });

  it('goes on from there when it is retried, with new orders for what is not deployed alone', async () => {
    const id = await stopped();
    await rollouts.faults('tgt_d', { unreachable: false });
    const before = await ended(id);
    // What a person does about it: the order was for site 9.
    await change(id, (order) => ({
      ...order,
      request: JSON.parse(JSON.stringify(order.request).replace('"site":9', '"site":1')),
    }));
    await retry(id);
    expect(await ended(id)).toMatchObject({ status: 'deployed', epoch: 2, error: null });
    expect(await served('tgt_a', 'tgt_b', 'tgt_c', 'tgt_d', 'tgt_e')).toEqual(Array(5).fill(certificate.thumbprint));
    const { deployments } = await rollouts.pipeline.read(id);
    const same = deployments.map(({ order }, at) => order === before.deployments[at]?.order);
    expect(same).toEqual([true, true, false, true, false]);
    expect(await rollouts.commits('tgt_b')).toBe(1);
  });

  it('begins all over when it is retried from validation', async () => {
    const id = await stopped();
    await rollouts.faults('tgt_d', { unreachable: false });
    await ended(id);
    expect(await retry(id, 'validation')).toMatchObject({ status: 'pending', epoch: 2 });
    expect(await rollouts.deployments(id)).toEqual([
      ...['tgt_a waiting', 'tgt_b waiting', 'tgt_c waiting', 'tgt_d waiting', 'tgt_e waiting'],
    ]);
    expect(await rollouts.parts(id)).toEqual([]);
  });

  it('goes on when that one target is taken up again by itself before its wave has ended', async () => {
    const id = await stopped();
    const part = (await rollouts.parts(id))[2];
    await change<FailedOrder>(part?.id ?? '', (order) => {
      const again = retried(order, 'deployment', Date.now());
      return { ...again, request: { ...again.request, deploy: { mode: 'site', target: 'tgt_c', site: 1 } } };
    });
    await until(id, 'tgt_a deployed', 'tgt_b deployed', 'tgt_c deployed', 'tgt_d under way', 'tgt_e waiting');
    expect(await rollouts.pipeline.read(id)).toMatchObject({ status: 'issued', error: null });
    await rollouts.faults('tgt_d', { unreachable: false });
    expect(await ended(id)).toMatchObject({ status: 'deployed' });
  });
});

describe('a rollout that is called off', () => {
  it('begins no other wave, and its parts that wait for another attempt are called off with it', async () => {
    await addHosts('a', 'b', 'c');
    await rollouts.faults('tgt_b', { unreachable: true });
    const { id } = await rollouts.enqueue(certificate.id, ['tgt_a', 'tgt_b'], ['tgt_c']);
    start();
    await until(id, 'tgt_a deployed', 'tgt_b under way', 'tgt_c waiting');
    await cancel(id);
    await until(id, 'tgt_a deployed', 'tgt_b cancelled', 'tgt_c cancelled');
    expect(await rollouts.pipeline.read(id)).toMatchObject({ status: 'cancelled' });
    expect((await rollouts.parts(id)).map(({ status }) => status)).toEqual(['deployed', 'cancelled']);
    await rollouts.faults('tgt_b', { unreachable: false });
    expect(await served('tgt_a', 'tgt_b', 'tgt_c')).toEqual([certificate.thumbprint, null, null]);
    for (const target of ['tgt_a', 'tgt_b', 'tgt_c'])
      expect(await rollouts.pipeline.store.orders.unfinishedAt(target)).toEqual([]);
  });
});
