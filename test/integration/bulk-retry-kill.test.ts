import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { failed } from '#libs/model/transitions';
import type { Redis } from '../../services/lab/redis.ts';
import { type RunningProgram, startProgram } from '../../services/lab/running-program.ts';
import { type BareApi, placeAllFailed, startBareApi } from '../support/failed-orders.ts';
import { eventually } from '../support/lab-session.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { failure } from '../support/sample-orders.ts';
import { inRepository } from '../support/source-tree.ts';

/** A bulk retry whose scheduler dies: what it had done is done, and another one does the rest. */
let server: Redis;
let api: BareApi;
let dir: string;
const schedulers: RunningProgram[] = [];

async function startScheduler(): Promise<RunningProgram> {
  const settings = { REDIS_URL: server.url, METRICS_PORT: '0', LOG_LEVEL: 'warn', DRIFT_CHECK_MINUTES: '0' };
  const env = { ...settings, BULK_RETRY_PER_MINUTE: '60000', RECONCILE_INTERVAL_MS: '100' };
  const args = [inRepository('services/scheduler/main.ts')];
  const program = { kind: 'file', path: process.execPath } as const;
  const logFile = join(dir, `scheduler-${schedulers.length}.log`);
  const started = await startProgram(program, { args, dir, logFile, env });
  schedulers.push(started);
  return started;
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-bulk-'));
  server = await startTestRedis('always');
  api = await startBareApi(server.url);
});
afterAll(async () => {
  await Promise.all(schedulers.map((one) => one.stop('SIGKILL', 0)));
  await api?.close();
  await server?.close();
  await rm(dir, { recursive: true, force: true });
});

it('retries each of 300 orders exactly once when its scheduler is killed in the middle and another one goes on', async () => {
  const { client, resources } = api;
  const { store } = resources;
  const ids = await placeAllFailed(
    store,
    Array.from({ length: 300 }, () => ({})),
  );
  const { id } = await client.send('POST', '/v1/orders/retry', { filter: { code: 'http01_unreachable' } });
  const progress = async () => await client.send('GET', `/v1/orders/retry/${id}`);

  const first = await startScheduler();
  await eventually('the first of them are retried', 20_000, async () => Number((await progress()).retried) >= 40);
  await first.signal('SIGKILL');
  await first.ended;
  const half = await progress();
  expect(half).toMatchObject({ status: 'running', skipped: [], failed: [] });
  expect(Number(half.left)).toBeGreaterThan(0);

  // Those that had their turn fail again before anybody goes on: they are not to have another one.
  const again = [...(await store.bulkRetries.results(String(id))).keys()].slice(0, 40);
  for (const order of again) {
    const retried = await store.orders.get(order);
    if (retried) await store.orders.save(retried, failed(retried, 'validation', failure, Date.now()), []);
  }
  await startScheduler();
  await eventually('all have had their turn', 20_000, async () => (await progress()).status === 'completed');

  expect(await progress()).toMatchObject({ matched: 300, retried: 300, left: 0, skipped: [], failed: [] });
  const turns = await Promise.all(
    ids.map(async (order) => (await store.history(order)).filter(({ type }) => type === 'order_retried').length),
  );
  expect(turns).toEqual(ids.map(() => 1));
  expect(await store.orders.count('failed')).toBe(again.length);
}, 60_000);
