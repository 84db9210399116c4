import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Difference, DriftReport } from '#libs/model/drift';
import type { Deployment, Order, TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { cancelled, newDeployment } from '#libs/model/transitions';
import type { Redis } from '../../services/lab/redis.ts';
import { finding } from '../support/drift-findings.ts';
import { type DriftTarget, openDriftTarget } from '../support/drift-target.ts';
import type { FakeClock } from '../support/fake-clock.ts';
import { type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { orderRequest } from '../support/sample-orders.ts';

const hour = 3_600_000;
const { signal: forever } = new AbortController();
const site = (id: number): TargetDeploy => ({ mode: 'site', target: 'tgt_1', site: id });

let server: Redis;
let drift: DriftTarget;
let pipeline: Pipeline;
let clock: FakeClock;
let warnings: DriftTarget['warnings'];
let target: Target;
/** What the target is found to be. */
let found: Difference[];

const report = (differences = found): DriftReport => ({ ...finding('tgt_1', differences), since: 0 });

/** An unfinished order of the target that has its certificate. */
async function deploying(cert: string, names: string[]): Promise<Order> {
  const order = newDeployment(`ord_${cert}_${names[0]}`, orderRequest({ names, deploy: site(1) }), cert, clock.now());
  return (await pipeline.store.orders.place(order)).order;
}
async function end(order: Order): Promise<void> {
  await pipeline.store.orders.save(order, cancelled(order, clock.now()), []);
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  drift = await openDriftTarget(server, () => found, 'repair');
  ({ pipeline, clock, warnings, target } = drift);
  await drift.certificate('crt_1', ['a.example.com']);
  found = [];
});
afterEach(async () => {
  await pipeline.close();
});

describe('a repair', () => {
  it('is an order as the one before, for these places alone, one for each deployment', async () => {
    await drift.certificate('crt_2', ['b.example.com']);
    const { store } = pipeline;
    await store.orders.place(
      newDeployment('ord_first', orderRequest({ profile: 'shortlived', preferredChain: 'Root X' }), 'crt_1', 0),
    );
    await end(await pipeline.read('ord_first'));
    found = [
      await drift.expected('1|https|*:443:a', { deploy: { ...site(1), store: 'WebHosting' } }),
      await drift.expected('1|https|*:443:b', { deploy: { ...site(1), store: 'WebHosting' } }),
      await drift.expected('2|https|*:443:a', { deploy: site(2) }),
      await drift.expected('1|https|*:443:c', { certificate: 'crt_2' }),
    ];
    const { orders, left } = await drift.repairs().place(target, report(), 'policy');
    expect(left).toEqual([]);
    expect(await drift.unfinished()).toEqual(orders.toSorted((one, other) => (one.id < other.id ? -1 : 1)));
    const webHosting = { store: 'WebHosting' as const };
    const only = (...places: string[]) => ({ only: places });
    expect(orders.map((order) => order.status === 'issued' && [order.certificate, order.request.deploy])).toEqual([
      ['crt_1', { ...site(1), ...webHosting, ...only('1|https|*:443:a', '1|https|*:443:b') }],
      ['crt_1', { ...site(2), ...only('2|https|*:443:a') }],
      ['crt_2', { ...site(1), ...only('1|https|*:443:c') }],
    ]);
    expect(orders[0]?.request).toMatchObject({
      ...{ names: ['a.example.com'], account: 'acc_9', keyType: 'ec-p256', source: null },
      ...{ profile: 'shortlived', preferredChain: 'Root X', challenge: { type: 'http-01' } },
    });
    const jobs = await pipeline.queue('deployment').getJobs(['waiting']);
    expect(jobs.map(({ data }) => data)).toEqual([{ target: 'tgt_1' }]);
    const { values } = await pipeline.metrics.driftRepairs.get();
    expect(values.map(({ value }) => value)).toEqual([3]);
  });

  it('leaves what it cannot put right, with the reason, and repairs the rest', async () => {
    await drift.certificate('crt_2', ['b.example.com'], { notAfter: clock.now() - 1 });
    const [gone, moved] = [await drift.expected('a', { certificate: 'crt_0' }), await drift.expected('c')];
    await drift.expected('c', { order: 'ord_newer' });
    found = [
      gone,
      await drift.expected('b', { certificate: 'crt_2' }),
      moved,
      { ...(await drift.expected('d')), unrepairable: 'the site is gone' },
      await drift.expected('e'),
    ];
    const { orders, left } = await drift.repairs().place(target, report(), 'request');
    expect(orders.map(({ request }) => request.deploy)).toEqual([{ ...site(1), only: ['e'] }]);
    const reasons = new Map(left.map(({ place, reason }) => [place, reason]));
    expect(reasons).toEqual(
      new Map([
        ['a', 'the certificate crt_0 is gone: order a new one'],
        ['b', expect.stringMatching(/^the certificate expired at .*: order a new one$/)],
        ['c', 'something else is to be there by now: look again'],
        ['d', 'the site is gone'],
      ]),
    );
  });

  it('is not placed twice, also when the one who placed it died before it could say so', async () => {
    found = [await drift.expected('a')];
    // What a process leaves that is killed straight after the order was stored.
    const dying = drift.repairs({
      producer: {
        enqueue: () => {
          throw new Error('killed');
        },
      },
    });
    await expect(dying.place(target, report(), 'policy')).rejects.toThrow('killed');
    const [order] = await drift.unfinished();
    const again = await drift.repairs().place(target, report(), 'policy');
    expect(again).toEqual({ orders: [], left: [{ place: 'a', reason: `${order?.id} is to deploy there already` }] });
    const both = await Promise.all([1, 2, 3].map(() => drift.repairs().place(target, report(), 'request')));
    expect(both.flatMap(({ orders }) => orders)).toEqual([]);
    expect(await drift.unfinished()).toHaveLength(1);
  });

  it('is placed once by two that do it at once', async () => {
    found = [await drift.expected('a')];
    const all = await Promise.all(Array.from({ length: 5 }, () => drift.repairs().place(target, report(), 'request')));
    expect(all.flatMap(({ orders }) => orders)).toHaveLength(1);
    expect(await drift.unfinished()).toHaveLength(1);
  });

  it('comes after a deployment for the same names, which may have a newer certificate', async () => {
    await drift.certificate('crt_2', ['a.example.com', 'b.example.com']);
    await drift.certificate('crt_3', ['c.example.com']);
    found = [await drift.expected('a')];
    await deploying('crt_3', ['c.example.com']);
    const newer = await deploying('crt_2', ['a.example.com', 'b.example.com']);
    const { orders, left } = await drift.repairs().place(target, report(), 'policy');
    expect([orders, left]).toEqual([[], [{ place: 'a', reason: `${newer.id} is to deploy there already` }]]);
    await end(newer);
    expect((await drift.repairs().place(target, report(), 'policy')).orders).toHaveLength(1);
  });

  it('is not placed when such a deployment ends while it is being placed', async () => {
    await drift.certificate('crt_2', ['a.example.com']);
    found = [await drift.expected('a')];
    const newer = await deploying('crt_2', ['a.example.com']);
    const { expectations } = pipeline.store;
    // It ends as soon as the repair has read what is expected, or right before that.
    const after = async (of: string) => {
      const read = await expectations.of(of);
      await end(newer);
      return read;
    };
    const before = async (of: string) => {
      await drift.expected('a', { order: newer.id, certificate: 'crt_2' });
      return expectations.of(of);
    };
    const { orders, left } = await drift.repairs({ expectations: { of: after } }).place(target, report(), 'policy');
    expect([orders, left]).toEqual([[], [{ place: 'a', reason: `${newer.id} is to deploy there already` }]]);
    expect(await drift.repairs({ expectations: { of: before } }).place(target, report(), 'policy')).toEqual({
      ...{ orders: [], left: [{ place: 'a', reason: 'something else is to be there by now: look again' }] },
    });
  });

  it.each([
    ['waits for no wave of a rollout that has not begun', 'waiting', 1],
    ['waits for a wave of a rollout that has begun', 'under way', 0],
    ['waits for no wave of a rollout that is over', 'deployed', 1],
  ] as const)('%s', async (_, status, placed) => {
    found = [await drift.expected('a')];
    const waves = [[{ ...site(1), target: 'tgt_0' }], [site(1)]];
    const request = orderRequest({ names: ['a.example.com'], deploy: { mode: 'rollout', waves } });
    const whole = newDeployment('ord_whole', request, 'crt_1', clock.now());
    const [first, second] = whole.deployments as [Deployment, Deployment];
    const deployments = [
      { ...first, status: 'under way' as const },
      { ...second, status },
    ];
    await pipeline.store.orders.place({ ...whole, deployments });
    const { orders } = await drift.repairs().place(target, report(), 'policy');
    expect(orders).toHaveLength(placed);
  });

  it('of the same place is made three times within 24 hours, then it is only reported, until a day has passed', async () => {
    const [a, b] = [await drift.expected('a'), await drift.expected('b')];
    found = [a];
    for (let n = 0; n < 3; n += 1) {
      const { orders } = await drift.repairs().place(target, await drift.looks().look(target, forever), 'policy');
      expect(orders).toHaveLength(1);
      await end(orders[0] as Order);
      clock.advance(hour);
    }
    warnings.length = 0;
    found = [a, b];
    const seen = await drift.looks().look(target, forever);
    expect(seen.differences.map(({ detail }) => detail)).toEqual([
      expect.stringContaining('repaired 3 times within 24 hours and changed again'),
      'the binding is gone',
    ]);
    const { orders, left } = await drift.repairs().place(target, seen, 'policy');
    expect(orders.map(({ request }) => request.deploy)).toEqual([{ ...site(1), only: ['b'] }]);
    expect(left).toEqual([{ place: 'a', reason: 'repaired 3 times within 24 hours and changed again' }]);
    expect(warnings.map(({ msg }) => msg)).toContain(
      'tgt_1 is left as it is: repaired 3 times within 24 hours and changed again',
    );
    await end(orders[0] as Order);
    // A person may.
    found = [a];
    const asked = await drift.repairs().place(target, await drift.looks().look(target, forever), 'request');
    expect(asked.orders).toHaveLength(1);
    await end(asked.orders[0] as Order);
    clock.advance(22 * hour);
    expect(
      (await drift.repairs().place(target, await drift.looks().look(target, forever), 'policy')).orders,
    ).toHaveLength(1);
  });
});
