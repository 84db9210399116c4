import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { readConfig } from '#libs/config';
import { asCertlineError } from '#libs/errors';
import type { IisTarget } from '#libs/model/target';
import { createHostRequests, type HostRequests } from '#libs/queues/host-requests';
import { openResources, type Resources } from '#libs/service/resources';
import type { Service } from '#libs/service/run';
import { sections, startDeploymentWorker } from '../../services/deployment-worker/service.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { type SharedHttpPort, startSharedHttpPort } from '../../services/lab/shared-http-port.ts';
import { siteXml } from '../support/iis-config.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { createMachine, type Machine, withoutPowerShell } from '../support/powershell.ts';

const folder = '/.well-known/acme-challenge';
const { signal } = new AbortController();
const patience = { timeout: 10_000, interval: 50 };
/** A machine with IIS that the deployment worker runs on: its target is of the kind `local`. */
const target: IisTarget = {
  ...{ id: 'tgt_1', name: 'web01', kind: 'iis', pool: 'default', windows: [], drift: 'report', createdAt: 0 },
  transport: { kind: 'local' },
};

describe.skipIf(withoutPowerShell)('challenges that a host answers for orders', { timeout: 120_000 }, () => {
  let dir: string;
  let server: Redis;
  let root: string;
  let web: SharedHttpPort;
  let machine: Machine;
  let resources: Resources;
  let worker: Service;
  let requests: HostRequests;
  const path = process.env.PATH;
  let count = 0;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'challenge-listeners-'));
    server = await startTestRedis();
    // Builds the host of PowerShell, where that was not done yet.
    await (await createMachine({ config: '' })).close();
  }, 300_000);
  afterAll(async () => {
    await server?.close();
    await rm(dir, { recursive: true });
  });
  beforeEach(async () => {
    root = await mkdtemp(join(dir, 'root-'));
    web = await startSharedHttpPort({ dir: await mkdtemp(join(dir, 'web-')), root });
    machine = await createMachine({ config: siteXml({ id: 5, physicalPath: root, bindings: [] }), env: web.env });
    process.env.PATH = `${machine.bin}:${path}`;
    count += 1;
    const config = readConfig(['redis', 'log', ...sections], {
      ...{ REDIS_URL: server.url, NAMESPACE: `listeners-${count}`, LOG_LEVEL: 'silent' },
      MASTER_KEY: `test:${Buffer.alloc(32, 1).toString('base64')}`,
    });
    resources = await openResources('deployment-worker', 'worker', config);
    await resources.store.targets.put(target);
    worker = await startDeploymentWorker(resources, config);
    const { redis, store } = resources;
    requests = createHostRequests({ redis, prefix: store.keys.tag, clock, onError: () => {} });
  });
  afterEach(async () => {
    await requests.close();
    await worker.stop();
    await resources.close();
    await web.close();
    await machine.close();
    process.env.PATH = path;
  });

  const wants = (order: string): Promise<void> => resources.store.challengeListeners.want(order, target.id);
  const listen = (order: string, ...tokens: string[]): Promise<void> => {
    const answers = Object.fromEntries(tokens.map((token) => [token, `${token}.print`]));
    return requests.listen(target, { order, port: web.port, answers }, signal);
  };
  const get = async (token: string): Promise<string | number> => {
    const response = await fetch(`http://127.0.0.1:${web.port}${folder}/${token}`, {
      headers: { connection: 'close' },
    });
    return response.status === 200 ? response.text() : response.status;
  };
  const tokens = async (): Promise<string[]> =>
    (await web.registered()).map((prefix) => prefix.split('/').at(-2) ?? '');
  const listened = (...these: string[]): Promise<unknown> =>
    vi.waitUntil(async () => (await tokens()).join() === these.join(), patience);

  it('by a listener until the order drops them, each order by its own', async () => {
    await Promise.all([wants('ord_1'), wants('ord_2')]);
    await Promise.all([listen('ord_1', 'a', 'b'), listen('ord_2', 'c')]);
    expect(await Promise.all(['a', 'b', 'c'].map(get))).toEqual(['a.print', 'b.print', 'c.print']);
    await resources.store.challengeListeners.drop('ord_1', target.id);
    await listened('c');
    expect(await Promise.all(['a', 'c'].map(get))).toEqual([404, 'c.print']);
  });

  it('by one listener, however often they are asked for, and by another for what is new', async () => {
    await wants('ord_1');
    const before = await machineProcesses(machine);
    await Promise.all([listen('ord_1', 'a'), listen('ord_1', 'a'), listen('ord_1', 'a')]);
    expect(await machineProcesses(machine)).toBe(before + 1);
    await listen('ord_1', 'a', 'b');
    expect(await machineProcesses(machine)).toBe(before + 2);
    expect(await Promise.all(['a', 'b'].map(get))).toEqual(['a.print', 'b.print']);
  });

  it('by nobody any more when the worker is stopped', async () => {
    await wants('ord_1');
    await listen('ord_1', 'a');
    await worker.stop();
    await listened();
    expect(await get('a')).toBe(404);
  });

  it('by a listener that ends when nobody wants it from the beginning, and is there when it is asked for again', async () => {
    // It is seen at the first look, before it listens or soon after.
    await listen('ord_1', 'a').catch(() => {});
    await listened();
    await wants('ord_1');
    await listen('ord_1', 'a');
    expect(await get('a')).toBe('a.print');
  });

  it('not at all where the host refuses, and says why', async () => {
    await wants('ord_1');
    const refused = await listen('ord_1', 'no token').catch(asCertlineError);
    expect(refused).toMatchObject({ code: 'target_refused', message: expect.stringContaining('characters') });
    const other = {
      ...target,
      id: 'tgt_2',
      name: 'lab',
      transport: { kind: 'lab', url: 'http://127.0.0.1:1' },
    } as const;
    await resources.store.targets.put(other);
    const simulated = requests.listen(other, { order: 'ord_1', port: 80, answers: { a: 'a.print' } }, signal);
    expect(await simulated.catch(asCertlineError)).toMatchObject({
      ...{ code: 'target_refused', message: expect.stringContaining('simulated host') },
    });
  });

  it('by a file, which IIS serves with the right web.config, and which goes with all that came with it', async () => {
    const file = { site: 5, token: 'a', keyAuthorization: 'a.print' };
    await requests.writeChallenge(target, { ...file, webConfig: 'none' }, signal);
    expect(await get('a')).toBe(404);
    for (const webConfig of ['mime', 'full'] as const) {
      await requests.writeChallenge(target, { ...file, webConfig }, signal);
      expect(await get('a')).toBe('a.print');
    }
    expect(await readFile(join(root, folder, 'web.config'), 'utf8')).toContain('<httpRedirect enabled="false" />');
    for (let twice = 0; twice < 2; twice += 1) await requests.removeChallenge(target, { site: 5, token: 'a' }, signal);
    expect(await readdir(root)).toEqual([]);
    const gone = requests.writeChallenge(target, { ...file, site: 6, webConfig: 'none' }, signal);
    expect(await gone.catch(asCertlineError)).toMatchObject({ code: 'site_not_found' });
    await requests.removeChallenge(target, { site: 6, token: 'a' }, signal);
  });
});

/** How many PowerShell processes of the machine run. */
async function machineProcesses({ env }: Machine): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const own = await Promise.all(
    pids.map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      return environment.includes(`FAKE_IIS_CONFIG=${env.FAKE_IIS_CONFIG}`);
    }),
  );
  return own.filter(Boolean).length;
}
