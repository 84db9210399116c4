import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Job, Queue } from 'bullmq';
import { vi } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { createLogger } from '#libs/logging';
import { createMetrics, type Metrics } from '#libs/metrics/metrics';
import { newId } from '#libs/model/ids';
import type { Order, OrderRequest, PendingOrder, StageName } from '#libs/model/order';
import { defaultPool, type Target } from '#libs/model/target';
import { newOrder } from '#libs/model/transitions';
import type { StageHandler, TargetHandler } from '#libs/queues/handler';
import { createProducer, type Producer } from '#libs/queues/producer';
import { startStageWorker, type WorkerSettings } from '#libs/queues/stage-worker';
import { startTargetWorker } from '#libs/queues/target-worker';
import type { RunningWorker } from '#libs/queues/worker';
import type { Resources } from '#libs/service/resources';
import { workerSettings } from '#libs/service/worker-settings';
import { connectRedis, type RedisClient, type RedisRole } from '#libs/store/redis';
import { createStore, type Store } from '#libs/store/store';
import { type Redis as RedisServer, startRedis } from '../../services/lab/redis.ts';
import { orderRequest } from './sample-orders.ts';

/** Queues, store and workers over a real Redis, in a namespace of their own: what the processes have, without the processes. */
export interface Pipeline {
  redis: RedisClient;
  store: Store;
  producer: Producer;
  metrics: Metrics;
  resources: Resources;
  settings: WorkerSettings;
  /** A queue by its name: that of a stage, or of a pool of deployments. */
  queue(name: string): Queue;
  /** Stores a target of a pool, or moves it there. */
  putTarget(id: string, pool: string): Promise<Target>;
  /** A stored order without a job, at the beginning of its way unless `change` puts it elsewhere. */
  place(request?: Partial<OrderRequest>, change?: (order: PendingOrder) => Order): Promise<Order>;
  /** As `place`, with its job. */
  enqueue(request?: Partial<OrderRequest>, change?: (order: PendingOrder) => Order): Promise<Order>;
  startStage<S extends 'validation' | 'issuance'>(stage: S, run: StageHandler<S>['run']): RunningWorker;
  /** The deployment stage with a handler, or with what one does in a run. */
  startTargets(handler: TargetHandler | TargetHandler['run'], pool?: string): RunningWorker;
  /** The order as it is stored. */
  read(id: string): Promise<Order>;
  until(id: string, done: (order: Order) => boolean): Promise<Order>;
  /** The job that drives the stage of the order in this epoch, once it is in one of these states. */
  jobIn(id: string, stage: StageName, epoch: number, ...states: string[]): Promise<Job>;
  /** Attempts counted so far, as `outcome code`. */
  counted(stage: StageName): Promise<Record<string, number>>;
  close(): Promise<void>;
}

/** A Redis for one test file. */
export async function startTestRedis(
  appendfsync: 'always' | 'everysec' = 'everysec',
  settings: readonly string[] = [],
): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), 'certline-redis-'));
  const server = await startRedis({ dir, appendfsync, settings });
  return {
    ...server,
    async close() {
      await server.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

let count = 0;
const patience = { timeout: 15_000, interval: 10 };

export function openPipeline(server: Pick<RedisServer, 'url'>, changes: Partial<WorkerSettings> = {}): Pipeline {
  count += 1;
  const redis = connectRedis(server.url, 'worker', () => {});
  const store = createStore(redis, `test-${count}`);
  const metrics = createMetrics('test');
  const prefix = store.keys.tag;
  const poolOf = async (id: string): Promise<string> => (await store.targets.get(id))?.pool ?? defaultPool;
  const producer = createProducer({ redis, prefix, clock, poolOf, onError: () => {} });
  const durability = { durable: true, appendonly: 'yes', appendfsync: 'always', maxmemoryPolicy: '', warnings: [] };
  const log = createLogger('test', 'silent');
  const connect = (role: RedisRole): RedisClient => connectRedis(server.url, role, () => {});
  const outages = { met: () => false, current: () => null, close: () => {} };
  const rest = { outages, connect, ready: store.ping, close: async () => {} };
  const resources: Resources = { redis, store, producer, metrics, clock, log, durability, ...rest };
  const config = {
    RETRY_DELAY_SCALE: 0.01,
    LOCK_DURATION_MS: 5_000,
    STALLED_INTERVAL_MS: 300,
    RECONCILE_INTERVAL_MS: 0,
  };
  const settings = { ...workerSettings(resources, config), random: () => 0.5, ...changes };
  const workers: RunningWorker[] = [];
  const queues = new Map<string, Queue>();
  const running = (worker: RunningWorker): RunningWorker => {
    workers.push(worker);
    return worker;
  };

  const pipeline: Pipeline = {
    redis,
    store,
    producer,
    metrics,
    resources,
    settings,
    queue(name) {
      const queue = queues.get(name) ?? new Queue(name, { connection: redis, prefix });
      queues.set(name, queue);
      return queue;
    },
    async putTarget(id, pool) {
      const target: Target = {
        ...{ id, name: id, kind: 'iis', pool, windows: [], drift: 'report' as const, createdAt: 0 },
        transport: { kind: 'lab', url: 'http://127.0.0.1:1' },
      };
      await store.targets.put(target);
      return target;
    },
    async place(request = {}, change = (order) => order) {
      const now = Date.now();
      const order = change(newOrder(newId('order', now), orderRequest(request), now));
      return (await store.orders.place(order)).order;
    },
    async enqueue(request, change) {
      const order = await pipeline.place(request, change);
      await producer.enqueue(order);
      return order;
    },
    startStage: (stage, run) => running(startStageWorker(stage, { run }, settings)),
    startTargets(handler, pool = defaultPool) {
      const all = typeof handler === 'function' ? { run: handler } : handler;
      return running(startTargetWorker(all, settings, pool));
    },
    async read(id) {
      const order = await store.orders.get(id);
      if (order === null) throw new Error(`there is no order ${id}`);
      return order;
    },
    async until(id, done) {
      await vi.waitUntil(async () => done(await pipeline.read(id)), patience);
      return pipeline.read(id);
    },
    async jobIn(id, stage, epoch, ...states) {
      const jobId = `${id}.${stage}.${epoch}`;
      await vi.waitUntil(async () => states.includes(await pipeline.queue(stage).getJobState(jobId)), patience);
      // Read when it was there: what it left is in it.
      const job: Job | undefined = await pipeline.queue(stage).getJob(jobId);
      if (job === undefined) throw new Error(`the job ${jobId} is gone`);
      return job;
    },
    async counted(stage) {
      const { values } = await metrics.stageAttempts.get();
      const own = values.filter(({ labels }) => labels.stage === stage);
      return Object.fromEntries(own.map(({ labels, value }) => [`${labels.outcome} ${labels.code}`, value]));
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.stop(0)));
      await Promise.all([...queues.values()].map((queue) => queue.close()));
      await producer.close();
      redis.disconnect();
    },
  };
  return pipeline;
}
