import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { readConfig } from '#libs/config';
import { openResources } from '#libs/service/resources';
import { type RedisCluster, startRedisCluster } from '../../services/lab/redis-cluster.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { eventually } from '../support/lab-session.ts';
import { type WholeOrders, wholeOrders } from '../support/whole-orders.ts';

/** All services over six Redis processes: three masters, each with a replica. */
describe('certline on a Redis Cluster', () => {
  let dir: string;
  let cluster: RedisCluster;
  let session: ApiSession;
  let orders: WholeOrders;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'certline-cluster-'));
    cluster = await startRedisCluster(dir);
    session = await openApiSession({ workers: true, env: { REDIS_URL: cluster.url } });
    orders = await wholeOrders(session);
  });
  afterAll(async () => {
    await orders?.close();
    await session?.close();
    await cluster?.close();
    await rm(dir, { recursive: true, force: true });
  });

  it('takes an order through all stages', async () => {
    const id = await orders.place('cluster.example.com');
    expect(await orders.deployed(id)).toEqual({ validation: 0, issuance: 0, deployment: 0 });
    expect(await orders.isServed('cluster.example.com')).toBe(true);
  });

  it('brings its orders to their end when the master of its keys dies under them', async () => {
    await session.lab.pebble.signal('SIGSTOP');
    const ids = [await orders.place('one.example.com'), await orders.place('two.example.com')];
    for (const id of ids) await session.event(id, ({ type }) => type === 'stage_started');
    const before = session.lab.pebble.issued().length;
    const master = await cluster.masterOf('{certline}');
    await master.kill('SIGKILL');
    onTestFinished(() => master.restart());
    await session.lab.pebble.signal('SIGCONT');
    await eventually('the replica is the master', 15_000, async () => (await fetch(`${session.url}/readyz`)).ok);
    for (const id of ids) expect(await orders.deployed(id)).toEqual({ validation: 0, issuance: 0, deployment: 0 });
    expect(session.lab.pebble.issued()).toHaveLength(before + 2);
  });

  it('refuses to start on one of its nodes, and says what is missing', async () => {
    const [REDIS_URL = ''] = cluster.url.split(',');
    const config = readConfig(['redis', 'log'], { REDIS_URL, LOG_LEVEL: 'silent' });
    await expect(openResources('api', 'api', config)).rejects.toMatchObject({
      ...{ code: 'store_refused', message: expect.stringContaining('name several of them, separated by commas') },
    });
  });
});
