import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { CertlineError, type Plan } from '#libs/errors';
import type { Claim } from '#libs/model/ca-limits';
import type { Order, PendingOrder, PresentedChallenge } from '#libs/model/order';
import { issued, validated } from '#libs/model/transitions';
import { startRolloutWorker } from '#libs/queues/rollout-worker';
import type { RunningWorker } from '#libs/queues/worker';
import type { Redis } from '../../services/lab/redis.ts';
import { createCleanUp } from '../../services/validation-worker/clean-up.ts';
import { dumpRedis } from '../support/api-session.ts';
import { type BareApi, startBareApi } from '../support/failed-orders.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

/** Orders that are called off wherever they are: queues, workers, Redis and API are the real ones, only what a stage does is the test's. */
let server: Redis;
let pipeline: Pipeline;
let api: BareApi;
const workers: RunningWorker[] = [];
const patience = { timeout: 15_000, interval: 10 };
const hour = 3_600_000;
const target = 'tgt_1';
const queues = ['validation', 'issuance', 'deployment', 'rollout'];

/** What a finished order may leave: its record and history, the lists that have it, and that it happened. */
const ofTheOrder = /:(order|order-history|idempotency|orders:name):|:orders$|:orders:status:|:events$/;
/** Jobs that ended are kept for an hour by the queues; whether one is left that has not is asked of them. */
const ofQueues = new RegExp(`\\}:(${queues.join('|')}):`);

async function content(): Promise<Map<string, string>> {
  const { prefix } = pipeline.settings;
  const all = [...(await dumpRedis(pipeline.redis))].filter(([key]) => key.startsWith(prefix));
  return new Map(all.filter(([key]) => !ofTheOrder.test(key) && !ofQueues.test(key)));
}

const cancel = (id: string) => api.client.request('POST', `/v1/orders/${id}/cancel`);

/** Calls an order off and looks that everything is as it was before there was one. */
async function expectNothingLeft(before: ReadonlyMap<string, string>, id: string): Promise<void> {
  expect(await cancel(id)).toMatchObject({ status: 200, body: { status: 'cancelled', nextAttemptAt: null } });
  await expectAsBefore(before);
}
async function expectAsBefore(before: ReadonlyMap<string, string>): Promise<void> {
  await vi.waitUntil(async () => {
    const counts = queues.map((name) =>
      pipeline.queue(name).getJobCounts('waiting', 'active', 'delayed', 'prioritized'),
    );
    return (await Promise.all(counts)).every((of) => Object.values(of).every((count) => count === 0));
  }, patience);
  expect(await content()).toEqual(before);
}

/** A place where a stage waits until the test lets it go on. */
function gate() {
  const [begun, open] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const pass = (): Promise<void> => {
    begun.resolve();
    return open.promise;
  };
  return { begun: begun.promise, open: open.resolve, pass };
}
const refusal = (plan: Plan, code: CertlineError['code'] = 'ca_unavailable') =>
  new CertlineError(code, 'as the test says', { plan });
const later = { kind: 'wait', until: Date.now() + hour, exact: true } as const;
const waits = ({ nextAttemptAt }: Order) => nextAttemptAt !== null;

/** A worker for as long as the test runs. */
function start(worker: RunningWorker): void {
  workers.push(worker);
}

beforeAll(async () => {
  server = await startTestRedis();
  pipeline = openPipeline(server);
  for (const id of [target, 'tgt_2']) await pipeline.putTarget(id, 'default');
  await pipeline.store.accounts.create({
    ...{ id: 'acc_1', ca: 'lab', directory: 'https://ca.test', email: 'ops@example.com', url: null, caBundle: null },
    ...{ allowInternalNames: false, eabKid: null, createdAt: 0 },
    parked: { code: 'account_unauthorized', detail: 'deactivated', at: 0 },
  });
  api = await startBareApi(server.url, { NAMESPACE: pipeline.settings.prefix.slice(1, -1) });
});
afterAll(async () => {
  await api?.close();
  await pipeline?.close();
  await server?.close();
});
afterEach(async () => {
  await Promise.all(workers.splice(0).map((worker) => worker.stop(0)));
});

const expires = Date.now() + hour;
const http = { type: 'http-01', name: 'a.example.com', token: 't', keyAuthorization: 't.k', expires } as const;
const dns = {
  type: 'dns-01',
  name: 'b.example.com',
  expires,
  record: '_acme-challenge.b.example.com',
  zone: 'example.com',
} as const;
const presented: PresentedChallenge[] = [
  { ...http, via: 'responder' },
  { ...http, via: 'webroot', folder: '/srv/www' },
  { ...http, via: 'target', target, site: 1 },
  { ...dns, credential: 'cred_1', value: 'v', since: 0 },
  { ...dns, credential: null, value: 'by hand', since: 0 },
];

it.each<[string, () => Promise<string>]>([
  ['that no worker has taken up', async () => (await pipeline.enqueue()).id],
  [
    'that waits for another attempt',
    async () => {
      start(
        pipeline.startStage('validation', () =>
          Promise.reject(refusal({ kind: 'retryable', notBefore: Date.now() + hour })),
        ),
      );
      return (await pipeline.enqueue()).id;
    },
  ],
  [
    'that waits for a new ACME order',
    async () => {
      start(
        pipeline.startStage('validation', () =>
          Promise.reject(refusal({ kind: 'restart', notBefore: Date.now() + hour })),
        ),
      );
      return (await pipeline.enqueue()).id;
    },
  ],
  [
    'that is held for its account',
    async () => {
      start(pipeline.startStage('validation', () => Promise.reject(refusal({ kind: 'park' }, 'account_unauthorized'))));
      return (await pipeline.enqueue()).id;
    },
  ],
  [
    'that stands in line for the budget of the CA',
    async () => {
      const rate = { count: 1, windowMs: hour, text: '1/1h' };
      const claims: Claim[] = [{ limit: 'certificates_per_name_set', key: 'names', about: 'names', rate }];
      start(
        pipeline.startStage('validation', async ({ id, epoch }) => {
          const shortage = await pipeline.store.caBudget.take({ directory: 'd', claims, order: id, epoch }, 2 * hour);
          throw refusal({ kind: 'wait', until: Date.now() + (shortage?.waitMs ?? 0) }, 'ca_budget_spent');
        }),
      );
      const { redis, store } = pipeline;
      const { id } = await pipeline.enqueue();
      await pipeline.until(id, waits);
      expect((await redis.keys(`${store.keys.caBudget('d')}:*:line:*`)).length).toBe(1);
      return id;
    },
  ],
  [
    'that waits between validation and issuance',
    async () => {
      start(pipeline.startStage('validation', async (order) => validated(order, acmeOrder, Date.now())));
      const { id } = await pipeline.enqueue();
      await pipeline.until(id, ({ status }) => status === 'validated');
      return id;
    },
  ],
  [
    'that waits to be finalized again, with its key',
    async () => {
      start(
        pipeline.startStage('issuance', async (order, { checkpoint }) => {
          const signing = { privateKey: `crt_${order.id}.1`, csr: 'c', attempt: 1 };
          await checkpoint({ signing }, 'key made', [pipeline.store.secrets.putting(signing.privateKey, 'sealed')]);
          throw refusal(later);
        }),
      );
      const { id } = await pipeline.enqueue({}, (order) => validated(order, acmeOrder, Date.now()));
      return id;
    },
  ],
])('an order %s leaves nothing when it is called off', async (what, make) => {
  // What others have taken of the budget stays.
  const rate = { count: 1, windowMs: hour, text: '1/1h' };
  const claims: Claim[] = [{ limit: 'certificates_per_name_set', key: 'names', about: 'names', rate }];
  await pipeline.store.caBudget.take({ directory: 'd', claims, order: 'another', epoch: 1 }, 2 * hour);
  const before = await content();
  const id = await make();
  if (!/no worker|between/.test(what))
    await pipeline.until(id, (order) => (waits(order) || order.parkedOn !== null) && order.startedAt === null);
  await expectNothingLeft(before, id);
});

it('an order with answers to its challenges leaves none, wherever they were written', async () => {
  const { store } = pipeline;
  const before = await content();
  start(
    pipeline.startStage('validation', async ({ id }, { checkpoint }) => {
      await checkpoint({ presented });
      await store.challengeListeners.want(id, target);
      throw refusal(later, 'dns_record_awaited');
    }),
  );
  const { id } = await pipeline.enqueue();
  await pipeline.until(id, waits);
  expect(await store.challengeAnswers.get('t')).toBe('t.k');
  expect(await store.challengeListeners.isWanted(id, target)).toBe(true);
  const removed: string[] = [];
  const { clock, log } = pipeline.settings;
  const cleanUp = createCleanUp({
    cleanUps: store.cleanUps,
    clock,
    log,
    remove: async ({ kind }) => void removed.push(kind),
  });
  const { signal } = new AbortController();
  expect(await cleanUp(signal)).toBe(0);
  expect(await cancel(id)).toMatchObject({ status: 200 });
  await cleanUp(signal);
  expect(removed.toSorted()).toEqual(['dns', 'target', 'webroot']);
  await expectAsBefore(before);
});

it.each(['validation', 'issuance'] as const)(
  'an order that a worker has in %s leaves nothing when it is called off',
  async (stage) => {
    const before = await content();
    const { begun, open, pass } = gate();
    const inHand = async (context: { checkpoint(changes: object): Promise<unknown> }): Promise<never> => {
      await pass();
      await context.checkpoint({});
      throw new Error('the worker did not notice');
    };
    if (stage === 'validation') start(pipeline.startStage('validation', (_order, context) => inHand(context)));
    else start(pipeline.startStage('issuance', (_order, context) => inHand(context)));
    const { id } = await pipeline.enqueue({}, (order) =>
      stage === 'validation' ? order : validated(order, acmeOrder, Date.now()),
    );
    await begun;
    expect(await cancel(id)).toMatchObject({ status: 200 });
    open();
    await expectAsBefore(before);
    expect(await pipeline.read(id)).toMatchObject({ status: 'cancelled', error: null });
  },
);

const ready = (order: PendingOrder) => issued(validated(order, acmeOrder, Date.now()), 'crt_1', Date.now());
const toTarget = { mode: 'store', target } as const;

it('an order that waits for its target leaves nothing when it is called off', async () => {
  const before = await content();
  start(
    pipeline.startTargets(async (_target, orders) =>
      orders.map(({ id }) => ({ id, error: refusal({ kind: 'retryable', attempts: 100 }, 'target_unreachable') })),
    ),
  );
  const { id } = await pipeline.enqueue({ deploy: toTarget }, ready);
  await pipeline.until(id, waits);
  await vi.waitUntil(async () => (await cancel(id)).status === 200, patience);
  // What wakes the target is the target's: it finds nothing to do.
  await expectAsBefore(before);
});

it('an order that is being deployed is called off after that attempt, and then leaves nothing', async () => {
  const before = await content();
  const { begun, open, pass } = gate();
  start(
    pipeline.startTargets(async (_target, orders) => {
      await pass();
      return orders.map(({ id }) => ({
        id,
        error: refusal({ kind: 'retryable', notBefore: Date.now() + 500 }, 'target_unreachable'),
      }));
    }),
  );
  const { id } = await pipeline.enqueue({ deploy: toTarget }, ready);
  await begun;
  expect(await cancel(id)).toMatchObject({ status: 409, body: { code: 'order_state_conflict' } });
  open();
  await pipeline.until(id, ({ startedAt, nextAttemptAt }) => startedAt === null && nextAttemptAt !== null);
  await expectNothingLeft(before, id);
});

it('a rollout leaves nothing of itself nor of its parts when it is called off', async () => {
  const before = await content();
  start(startRolloutWorker(pipeline.settings));
  start(
    pipeline.startTargets(async (_target, orders) =>
      orders.map(({ id }) => ({
        id,
        error: refusal({ kind: 'retryable', notBefore: Date.now() + 500 }, 'target_unreachable'),
      })),
    ),
  );
  const deploy = { mode: 'rollout' as const, waves: [[toTarget], [{ mode: 'store' as const, target: 'tgt_2' }]] };
  const { id } = await pipeline.enqueue({ deploy }, (order) => ({
    ...ready(order),
    deployments: deploy.waves
      .flat()
      .map((one, at) => ({ target: one.target, wave: at + 1, order: null, status: 'waiting' })),
  }));
  const { deployments } = await pipeline.until(id, (order) =>
    order.deployments.some(({ order: part }) => part !== null),
  );
  await vi.waitUntil(async () => {
    const part = await pipeline.store.orders.get(deployments[0]?.order ?? '');
    return part !== null && waits(part);
  }, patience);
  await expectNothingLeft(before, id);
  await pipeline.until(id, (order) => order.deployments.every(({ status }) => status === 'cancelled'));
  await expectAsBefore(before);
});
