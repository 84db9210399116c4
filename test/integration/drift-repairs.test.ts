import { type Logger, pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Certificate } from '#libs/model/certificate';
import type { Difference, DriftReport, Expectation } from '#libs/model/drift';
import type { Deployment, Order, TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { cancelled, newDeployment } from '#libs/model/transitions';
import { createDriftLooks, type DriftLooks } from '#libs/queues/drift-looks';
import { createDriftRepairs, type DriftRepairs, type DriftRepairsDeps } from '#libs/queues/drift-repairs';
import { createUndoRecords } from '#libs/store/undo-records';
import type { Redis } from '../../services/lab/redis.ts';
import { difference, finding } from '../support/drift-findings.ts';
import { type FakeClock, fakeClock } from '../support/fake-clock.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { orderRequest } from '../support/sample-orders.ts';

const hour = 3_600_000;
const { signal: forever } = new AbortController();
const site = (id: number): TargetDeploy => ({ mode: 'site', target: 'tgt_1', site: id });

let server: Redis;
let pipeline: Pipeline;
let clock: FakeClock;
let log: Logger;
let warnings: { msg: string; [field: string]: unknown }[];
let target: Target;
/** What the target is found to be. */
let found: Difference[];

const undo = () => createUndoRecords(pipeline.redis, pipeline.store.keys);
const looks = (check = async () => finding('tgt_1', found, { checkedAt: clock.now() })): DriftLooks =>
  createDriftLooks({ ...pipeline.store, ...pipeline.settings, undo: undo(), check, clock, log });
const repairs = (more: Partial<DriftRepairsDeps> = {}): DriftRepairs =>
  createDriftRepairs({ ...pipeline.store, ...pipeline.settings, clock, log, ...more });
const report = (differences = found): DriftReport => ({ ...finding('tgt_1', differences), since: 0 });

async function certificate(id: string, names: string[], more: Partial<Certificate> = {}): Promise<void> {
  const key = { serial: id, thumbprint: id.padEnd(40, '0'), issuer: 'CN=Test', leaf: '', privateKey: `${id}.1` };
  const times = { notBefore: 0, notAfter: clock.now() + 1_000 * hour, renewAt: 0, createdAt: 0 };
  const record = {
    ...{ id, order: 'ord_first', account: 'acc_9', names, keyType: 'ec-p256' as const },
    ...key,
    ...times,
  };
  await pipeline.store.certificates.create({ ...record, ...more }, '');
}
/** Something that a deployment left at a place, and what is found there now. */
async function expected(place: string, more: Partial<Expectation> = {}): Promise<Difference> {
  const expectation = {
    ...{ place, order: 'ord_1', certificate: 'crt_1', thumbprint: 'A'.repeat(40), store: 'My', sslFlags: 1, at: 0 },
    ...{ deploy: site(1), ...more },
  };
  for (const [name, ...args] of pipeline.store.expectations.recording('tgt_1', [expectation]))
    await pipeline.redis.call(name, ...args);
  return difference(place, { order: expectation.order, certificate: expectation.certificate });
}
/** An unfinished order of the target that has its certificate. */
async function deploying(cert: string, names: string[]): Promise<Order> {
  const order = newDeployment(`ord_${cert}_${names[0]}`, orderRequest({ names, deploy: site(1) }), cert, clock.now());
  return (await pipeline.store.orders.place(order)).order;
}
const unfinished = async (): Promise<Order[]> =>
  Promise.all((await pipeline.store.orders.unfinishedAt('tgt_1')).sort().map(pipeline.read));
async function end(order: Order): Promise<void> {
  await pipeline.store.orders.save(order, cancelled(order, clock.now()), []);
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  clock = fakeClock(Date.now());
  warnings = [];
  log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line)) });
  target = { ...(await pipeline.putTarget('tgt_1', 'default')), drift: 'repair' };
  await pipeline.store.targets.put(target);
  await certificate('crt_1', ['a.example.com']);
  found = [];
});
afterEach(async () => {
  await pipeline.close();
});

describe('a repair', () => {
  it('is an order as the one before, for these places alone, one for each deployment', async () => {
    await certificate('crt_2', ['b.example.com']);
    const { store } = pipeline;
    await store.orders.place(
      newDeployment('ord_first', orderRequest({ profile: 'shortlived', preferredChain: 'Root X' }), 'crt_1', 0),
    );
    await end(await pipeline.read('ord_first'));
    found = [
      await expected('1|https|*:443:a', { deploy: { ...site(1), store: 'WebHosting' } }),
      await expected('1|https|*:443:b', { deploy: { ...site(1), store: 'WebHosting' } }),
      await expected('2|https|*:443:a', { deploy: site(2) }),
      await expected('1|https|*:443:c', { certificate: 'crt_2' }),
    ];
    const { orders, left } = await repairs().place(target, report(), 'policy');
    expect(left).toEqual([]);
    expect(await unfinished()).toEqual(orders.toSorted((one, other) => (one.id < other.id ? -1 : 1)));
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
    await certificate('crt_2', ['b.example.com'], { notAfter: clock.now() - 1 });
    const [gone, moved] = [await expected('a', { certificate: 'crt_0' }), await expected('c')];
    await expected('c', { order: 'ord_newer' });
    found = [
      gone,
      await expected('b', { certificate: 'crt_2' }),
      moved,
      { ...(await expected('d')), unrepairable: 'the site is gone' },
      await expected('e'),
    ];
    const { orders, left } = await repairs().place(target, report(), 'request');
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
    found = [await expected('a')];
    // What a process leaves that is killed straight after the order was stored.
    const dying = repairs({
      producer: {
        enqueue: () => {
          throw new Error('killed');
        },
      },
    });
    await expect(dying.place(target, report(), 'policy')).rejects.toThrow('killed');
    const [order] = await unfinished();
    const again = await repairs().place(target, report(), 'policy');
    expect(again).toEqual({ orders: [], left: [{ place: 'a', reason: `${order?.id} is to deploy there already` }] });
    const both = await Promise.all([1, 2, 3].map(() => repairs().place(target, report(), 'request')));
    expect(both.flatMap(({ orders }) => orders)).toEqual([]);
    expect(await unfinished()).toHaveLength(1);
  });

  it('is placed once by two that do it at once', async () => {
    found = [await expected('a')];
    const all = await Promise.all(Array.from({ length: 5 }, () => repairs().place(target, report(), 'request')));
    expect(all.flatMap(({ orders }) => orders)).toHaveLength(1);
    expect(await unfinished()).toHaveLength(1);
  });

  it('comes after a deployment for the same names, which may have a newer certificate', async () => {
    await certificate('crt_2', ['a.example.com', 'b.example.com']);
    await certificate('crt_3', ['c.example.com']);
    found = [await expected('a')];
    await deploying('crt_3', ['c.example.com']);
    const newer = await deploying('crt_2', ['a.example.com', 'b.example.com']);
    const { orders, left } = await repairs().place(target, report(), 'policy');
    expect([orders, left]).toEqual([[], [{ place: 'a', reason: `${newer.id} is to deploy there already` }]]);
    await end(newer);
    expect((await repairs().place(target, report(), 'policy')).orders).toHaveLength(1);
  });

  it('is not placed when such a deployment ends while it is being placed', async () => {
    await certificate('crt_2', ['a.example.com']);
    found = [await expected('a')];
    const newer = await deploying('crt_2', ['a.example.com']);
    const { expectations } = pipeline.store;
    // It ends as soon as the repair has read what is expected, or right before that.
    const after = async (of: string) => {
      const read = await expectations.of(of);
      await end(newer);
      return read;
    };
    const before = async (of: string) => {
      await expected('a', { order: newer.id, certificate: 'crt_2' });
      return expectations.of(of);
    };
    const { orders, left } = await repairs({ expectations: { of: after } }).place(target, report(), 'policy');
    expect([orders, left]).toEqual([[], [{ place: 'a', reason: `${newer.id} is to deploy there already` }]]);
    expect(await repairs({ expectations: { of: before } }).place(target, report(), 'policy')).toEqual({
      ...{ orders: [], left: [{ place: 'a', reason: 'something else is to be there by now: look again' }] },
    });
  });

  it.each([
    ['waits for no wave of a rollout that has not begun', 'waiting', 1],
    ['waits for a wave of a rollout that has begun', 'under way', 0],
    ['waits for no wave of a rollout that is over', 'deployed', 1],
  ] as const)('%s', async (_, status, placed) => {
    found = [await expected('a')];
    const waves = [[{ ...site(1), target: 'tgt_0' }], [site(1)]];
    const request = orderRequest({ names: ['a.example.com'], deploy: { mode: 'rollout', waves } });
    const whole = newDeployment('ord_whole', request, 'crt_1', clock.now());
    const [first, second] = whole.deployments as [Deployment, Deployment];
    const deployments = [
      { ...first, status: 'under way' as const },
      { ...second, status },
    ];
    await pipeline.store.orders.place({ ...whole, deployments });
    const { orders } = await repairs().place(target, report(), 'policy');
    expect(orders).toHaveLength(placed);
  });

  it('of the same place is made three times within 24 hours, then it is only reported, until a day has passed', async () => {
    const [a, b] = [await expected('a'), await expected('b')];
    found = [a];
    for (let n = 0; n < 3; n += 1) {
      const { orders } = await repairs().place(target, await looks().look(target, forever), 'policy');
      expect(orders).toHaveLength(1);
      await end(orders[0] as Order);
      clock.advance(hour);
    }
    warnings = [];
    found = [a, b];
    const seen = await looks().look(target, forever);
    expect(seen.differences.map(({ detail }) => detail)).toEqual([
      expect.stringContaining('repaired 3 times within 24 hours and changed again'),
      'the binding is gone',
    ]);
    const { orders, left } = await repairs().place(target, seen, 'policy');
    expect(orders.map(({ request }) => request.deploy)).toEqual([{ ...site(1), only: ['b'] }]);
    expect(left).toEqual([{ place: 'a', reason: 'repaired 3 times within 24 hours and changed again' }]);
    expect(warnings.map(({ msg }) => msg)).toContain(
      'tgt_1 is left as it is: repaired 3 times within 24 hours and changed again',
    );
    await end(orders[0] as Order);
    // A person may.
    found = [a];
    const asked = await repairs().place(target, await looks().look(target, forever), 'request');
    expect(asked.orders).toHaveLength(1);
    await end(asked.orders[0] as Order);
    clock.advance(22 * hour);
    expect((await repairs().place(target, await looks().look(target, forever), 'policy')).orders).toHaveLength(1);
  });
});
