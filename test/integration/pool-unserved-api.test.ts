import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '#libs/config';
import { errorCodes } from '#libs/error-codes';
import { openResources } from '#libs/service/resources';
import { sections, startDeploymentWorker } from '../../services/deployment-worker/service.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';

/** certline as `npm start` has it, whose deployment worker serves no pool but the default one. */
let session: ApiSession;
let dir: string;
const stops: (() => Promise<void>)[] = [];

async function startWorkerFor(pool: string): Promise<void> {
  const config = readConfig(['redis', 'log', ...sections], { ...session.lab.env, DEPLOYMENT_POOLS: pool });
  const resources = await openResources('deployment-worker', 'worker', config);
  const worker = await startDeploymentWorker(resources, config);
  stops.push(async () => {
    await worker.stop();
    await resources.close();
  });
}
const served = async (queue: string): Promise<string | undefined> =>
  (await session.metrics()).split('\n').find((line) => line.startsWith(`certline_queue_served{queue="${queue}",`));

/** Lets an order have been there for some time. */
async function age(id: string, ms: number): Promise<void> {
  const order = await session.store.orders.get(id);
  if (order === null) throw new Error(`there is no order ${id}`);
  const older = await session.store.orders.save(order, { ...order, updatedAt: order.updatedAt - ms }, []);
  if (older === null) throw new Error(`somebody else has ${id}`);
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-pools-'));
  session = await openApiSession({ workers: true, env: { RECONCILE_INTERVAL_MS: '200' } });
});
afterAll(async () => {
  for (const stop of stops) await stop();
  await session?.close();
  await rm(dir, { recursive: true, force: true });
});

describe('a target in a pool that no worker serves', () => {
  it('takes orders, which say what they wait for and go on when a worker comes', async () => {
    const path = join(dir, 'place');
    await mkdir(path);
    const body = { name: 'place', kind: 'folder', path, pool: 'dmz' };
    const { id: target } = await session.api.send('POST', '/v1/targets', body);
    const detail = 'no deployment worker serves pool dmz (DEPLOYMENT_POOLS)';
    expect(await session.api.send('POST', `/v1/targets/${target}/test`)).toEqual({
      ok: false,
      steps: [{ step: 'connect', ok: false, detail: `pool_unserved: ${detail}` }],
    });
    const names = ['www.example.com'];
    const id = await session.order({ account: await session.account(), names, deploy: { target } });
    await session.until(id, 'issued', ({ status }) => status === 'issued', 60_000);
    await age(id, 120_000);
    const { error, status } = await session.until(id, 'its error', (order) => order.error !== null);
    expect({ error, status }).toMatchObject({
      error: { code: 'pool_unserved', stage: 'deployment', advice: errorCodes.pool_unserved.advice },
      status: 'issued',
    });
    await session.event(id, ({ type, code }) => type === 'stage_waiting' && code === 'pool_unserved');
    expect(await served('deployment-dmz')).toMatch(/ 0$/);
    expect(await served('deployment')).toMatch(/ 1$/);

    await startWorkerFor('dmz');
    const done = await session.until(id, 'deployed', (order) => order.status === 'deployed');
    expect(done).toMatchObject({ error: null, attempts: { deployment: 0 } });
    expect(await readdir(path)).toContain('www.example.com');
    expect(await served('deployment-dmz')).toMatch(/ 1$/);
    expect(await session.api.send('POST', `/v1/targets/${target}/test`)).toMatchObject({ ok: true });
  });
});
