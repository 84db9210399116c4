import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '#libs/model/ids';
import { newOrder } from '#libs/model/transitions';
import { connectRedis } from '#libs/store/redis';
import { createStore } from '#libs/store/store';
import type { LabHost } from '../../services/lab/lab.ts';
import type { RunningProgram } from '../../services/lab/running-program.ts';
import { type LabSession, openLabSession } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';

/**
 * Whatever dies, every order ends where it should with exactly one certificate, counted at the CA. The CA or the host is stopped
 * (SIGSTOP) while a worker waits for it, so that the kill falls into the stage for certain.
 */
type WorkerName = 'validation-worker' | 'issuance-worker' | 'deployment-worker' | 'scheduler';

describe('the pipeline when parts of it are killed', () => {
  let session: LabSession;
  let account: string;
  let host: LabHost;
  let target: string;
  const workers = new Map<string, RunningProgram>();
  let orders = 0;

  const start = async (name: WorkerName): Promise<RunningProgram> => {
    const running = await session.lab.startService(name);
    workers.set(name, running);
    return running;
  };
  /** Starts those of the workers that do not run: every test says which it needs. */
  const haveRunning = async (...names: WorkerName[]): Promise<void> => {
    for (const name of names) if (!workers.has(name)) await start(name);
  };
  const killWorker = async (name: string): Promise<void> => {
    await workers.get(name)?.stop('SIGKILL', 0);
    workers.delete(name);
  };
  const place = async (
    deploy: Record<string, unknown> = { mode: 'none' },
    name = `order-${orders + 1}.example.com`,
  ): Promise<string> => {
    orders += 1;
    return session.order({
      names: [name],
      account,
      challenges: [],
      challenge: { type: 'http-01' },
      key: { type: 'ec-p256' },
      deploy,
    });
  };
  const complete = (id: string): Promise<Record<string, unknown>> =>
    session.until(id, 'the order is complete', (order) => order.complete === true);
  const issuedFor = (): number => session.lab.pebble.issued().length;

  beforeAll(async () => {
    session = await openLabSession();
    await session.lab.startService('api');
    host = await session.lab.startHost('web01');
    await addSite(host.url, 1, ['*:80:killed.example.com']);
    target = String(
      (
        await session.api.send('POST', '/v1/targets', {
          name: 'web01',
          kind: 'iis',
          transport: { kind: 'lab', url: host.url },
        })
      ).id,
    );
    account = await session.registerAccount();
  });
  afterAll(() => session.close());

  it('finishes an order whose validation worker is killed, with another one', async () => {
    await haveRunning('scheduler', 'validation-worker', 'issuance-worker');
    await session.lab.pebble.signal('SIGSTOP');
    const id = await place();
    await session.event(id, (event) => event.type === 'stage_started');
    await killWorker('validation-worker');
    await session.lab.pebble.signal('SIGCONT');
    await start('validation-worker');
    expect(await complete(id)).toMatchObject({ status: 'issued', error: null });
    expect(issuedFor()).toBe(orders);
  });

  it('finishes an order whose issuance worker is killed after it made the key, with the same key', async () => {
    await haveRunning('scheduler', 'validation-worker');
    await killWorker('issuance-worker');
    const id = await place();
    await session.until(id, 'the names are proved', (order) => order.status === 'validated');
    await session.lab.pebble.signal('SIGSTOP');
    await start('issuance-worker');
    await session.event(id, (event) => event.type === 'stage_progress' && event.detail === 'ec-p256 key made');
    await killWorker('issuance-worker');
    await session.lab.pebble.signal('SIGCONT');
    await start('issuance-worker');
    expect(await complete(id)).toMatchObject({ status: 'issued', error: null });
    const keysMade: unknown[] = [];
    for await (const { data } of session.api.events(id)) if (data.detail === 'ec-p256 key made') keysMade.push(data);
    expect(keysMade).toHaveLength(1);
    expect(issuedFor()).toBe(orders);
  });

  it('finishes an order whose deployment worker is killed, in one commit to the host', async () => {
    await haveRunning('scheduler', 'validation-worker', 'issuance-worker');
    await killWorker('deployment-worker');
    const id = await place({ mode: 'site', target, site: 1 }, 'killed.example.com');
    await session.until(id, 'the certificate is issued', (order) => order.status === 'issued');
    await host.running.signal('SIGSTOP');
    await start('deployment-worker');
    await session.event(id, (event) => event.type === 'stage_started' && event.stage === 'deployment');
    await killWorker('deployment-worker');
    await host.running.signal('SIGCONT');
    await start('deployment-worker');
    expect(await complete(id)).toMatchObject({ status: 'deployed', error: null });
    const commits = (await (await fetch(`${host.url}/log`)).json()) as { count: number };
    expect(commits.count).toBe(1);
    expect(issuedFor()).toBe(orders);
  });

  it('finds an order whose job was never enqueued', async () => {
    await haveRunning('scheduler', 'validation-worker', 'issuance-worker');
    // What an API process leaves that dies between storing an order and adding its job.
    const redis = connectRedis(session.lab.redis.url, 'worker', () => {});
    const request = { account, keyType: 'ec-p256', profile: null, preferredChain: null, source: null } as const;
    const names = ['never-enqueued.example.com'];
    const order = newOrder(
      newId('order', Date.now()),
      { ...request, names, challenge: { type: 'http-01', via: 'responder' }, challenges: [], deploy: { mode: 'none' } },
      Date.now(),
    );
    await createStore(redis, 'certline').orders.place(order);
    redis.disconnect();
    orders += 1;
    const { id } = order;
    expect(await complete(id)).toMatchObject({ status: 'issued' });
    expect(issuedFor()).toBe(orders);
  });

  it('loses no order when Redis is killed and restarted with its data', async () => {
    await haveRunning('scheduler', 'validation-worker', 'issuance-worker');
    await session.lab.pebble.signal('SIGSTOP');
    const ids = [await place(), await place(), await place()];
    for (const id of ids) await session.event(id, (event) => event.type === 'stage_started');
    await session.lab.redis.kill('SIGKILL');
    await session.lab.pebble.signal('SIGCONT');
    await session.lab.redis.restart();
    await session.ready();
    for (const id of ids) expect(await complete(id)).toMatchObject({ status: 'issued' });
    expect(issuedFor()).toBe(orders);
  });

  it('answers 503 while Redis is away, and takes the order when it is back', async () => {
    await haveRunning('scheduler', 'validation-worker', 'issuance-worker');
    await session.lab.redis.kill('SIGKILL');
    const body = { names: ['later.example.com'], account, challenge: { type: 'http-01' }, key: { type: 'ec-p256' } };
    const refused = await session.api.request('POST', '/v1/orders', body);
    expect(refused).toMatchObject({ status: 503, body: { code: 'store_unavailable' } });
    await session.lab.redis.restart();
    await session.ready();
    const id = await place();
    expect(await complete(id)).toMatchObject({ status: 'issued' });
    expect(issuedFor()).toBe(orders);
  });

  it('hands its jobs back when it is told to stop, without using up an attempt', async () => {
    await haveRunning('scheduler', 'validation-worker', 'issuance-worker');
    await session.lab.pebble.signal('SIGSTOP');
    const id = await place();
    await session.event(id, (event) => event.type === 'stage_started');
    await workers.get('validation-worker')?.signal('SIGTERM');
    await workers.get('validation-worker')?.ended;
    await session.lab.pebble.signal('SIGCONT');
    workers.delete('validation-worker');
    await haveRunning('validation-worker');
    expect(await complete(id)).toMatchObject({ attempts: { validation: 0 }, error: null });
    expect(issuedFor()).toBe(orders);
  });
});
