import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createWebReader } from '#libs/challenges/web-reader';
import { createWebroots } from '#libs/challenges/webroots';
import { readConfig } from '#libs/config';
import { CertlineError } from '#libs/errors';
import type { HttpMethod } from '#libs/model/challenge-method';
import type { Order, PresentedChallenge, PresentedHttp } from '#libs/model/order';
import { cancelled } from '#libs/model/transitions';
import type { HostRequests } from '#libs/queues/host-requests';
import type { CleanUp } from '#libs/store/clean-ups';
import type { Redis } from '../../services/lab/redis.ts';
import { createHttpSolvers } from '../../services/validation-worker/http-solvers.ts';
import { createRemover } from '../../services/validation-worker/remove.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

const { signal: forever } = new AbortController();
const method: HttpMethod = { type: 'http-01', via: 'target', target: 'tgt_1', site: null };
const open = (name: string) => ({
  ...{ name, token: name.slice(0, 1), keyAuthorization: `${name.slice(0, 1)}.x`, expires: Date.now() + 60_000 },
  ...{ accountUrl: '', issuerDomains: [] },
});

/** The hosts of targets by hand, over a real store. */
let server: Redis;
let pipeline: Pipeline;
let asked: string[];
let hosts: HostRequests;

function fakeHosts(): HostRequests {
  const binding = { protocol: 'http', sslFlags: 0, thumbprint: null, store: null };
  const bindings = [{ ...binding, bindingInformation: '*:80:a.example.com' }];
  return {
    async read(target) {
      asked.push(`read ${target.id}`);
      return {
        ...{ iisMajor: 10, osBuild: 20_348 },
        sites: [{ id: 3, name: 'Shop', state: 'Started', ftp: null, bindings }],
      };
    },
    async listen(target, { order, port, answers }) {
      const wanted = await pipeline.store.challengeListeners.isWanted(order, target.id);
      asked.push(`listen ${target.id} ${port} ${Object.values(answers).sort().join(' ')}${wanted ? '' : ' unwanted'}`);
    },
    async writeChallenge(_target, { site, token, webConfig }) {
      asked.push(`write ${site} ${token} ${webConfig}`);
    },
    async removeChallenge(target, { site, token }) {
      asked.push(`remove ${target.id} ${site} ${token}`);
    },
    test: () => Promise.reject(new Error('nobody asks')),
    drift: () => Promise.reject(new Error('nobody asks')),
    close: async () => {},
  };
}
function solvers(env: Record<string, string> = { HTTP01_SELF_CHECK: 'false' }) {
  const config = readConfig(['validation'], env);
  const { log } = pipeline.resources;
  const read = createWebReader(async () => ['127.0.0.1'], [config.HTTP01_PORT]);
  const webroots = createWebroots(config.WEBROOTS);
  return createHttpSolvers({ config, outlook: { read }, store: pipeline.store, requests: hosts, webroots, log });
}
/** An order that says what it presents. */
async function presenting(...presented: PresentedChallenge[]): Promise<Order> {
  const order = await pipeline.place();
  const saved = await pipeline.store.orders.save(
    order,
    { ...order, presented, nextAttemptAt: Date.now() } as Order,
    [],
  );
  if (saved === null) throw new Error('not saved');
  return saved;
}
const challenge = (token: string, more: Partial<PresentedHttp<'target'>> = {}): PresentedHttp<'target'> => ({
  ...{ type: 'http-01', via: 'target', target: 'tgt_1', site: 3, expires: Date.now() + 60_000 },
  ...{ name: `${token}.example.com`, token, keyAuthorization: `${token}.x` },
  ...more,
});

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  asked = [];
  hosts = fakeHosts();
  await pipeline.putTarget('tgt_1', 'default');
});
afterEach(() => pipeline.close());

describe('http-01 by the host of a target', () => {
  it('finds the site of each name with one look at the host in a run', async () => {
    const run = new AbortController().signal;
    const solver = await solvers()(method, 'ord_1');
    const found = await Promise.all(['a.example.com', 'b.example.com'].map((name) => solver.prepare(open(name), run)));
    expect(found).toMatchObject([
      { via: 'target', target: 'tgt_1', token: 'a', keyAuthorization: 'a.x', site: 3 },
      { via: 'target', target: 'tgt_1', token: 'b', keyAuthorization: 'b.x', site: null },
    ]);
    expect(asked).toEqual(['read tgt_1']);
    await solver.prepare(open('a.example.com'), new AbortController().signal);
    expect(asked).toHaveLength(2);
  });

  it('believes in the site that is given, and does not look', async () => {
    const solver = await solvers()({ ...method, site: 9 }, 'ord_1');
    expect(await solver.prepare(open('a.example.com'), forever)).toMatchObject({ site: 9 });
    expect(asked).toEqual([]);
  });

  it('has it listen once in a run, for all names of the order that are its own', async () => {
    const [a, b] = [challenge('a'), challenge('b', { site: null })];
    const { id } = await presenting(a, b, challenge('c', { target: 'tgt_2' }));
    const solver = await solvers()(method, id);
    const run = new AbortController().signal;
    for (const one of [a, b]) await solver.present(one, run);
    expect(asked).toEqual(['listen tgt_1 80 a.x b.x']);
    const life = await pipeline.redis.pttl(pipeline.store.keys.challengeListener(id, 'tgt_1'));
    expect(life).toBeGreaterThan(290_000);
    await solver.present(a, new AbortController().signal);
    expect(asked).toHaveLength(2);
  });

  it('does nothing for an order that has dropped the challenge meanwhile', async () => {
    const a = challenge('a');
    const order = await presenting(a);
    const solver = await solvers()(method, order.id);
    await pipeline.store.orders.save(order, cancelled(order as never, Date.now()), []);
    await solver.present(a, forever);
    expect(asked).toEqual([]);
    expect(await pipeline.store.challengeListeners.isWanted(order.id, 'tgt_1')).toBe(false);
  });

  it('fails as the host does, for each name', async () => {
    const error = new CertlineError('host_key_changed', 'web01 shows another key');
    hosts = { ...hosts, listen: () => Promise.reject(error), read: () => Promise.reject(error) };
    const [a, b] = [challenge('a'), challenge('b')];
    const { id } = await presenting(a, b);
    const solver = await solvers()(method, id);
    for (const one of [a, b]) await expect(solver.present(one, forever)).rejects.toBe(error);
    await expect(solver.prepare(open('a.example.com'), forever)).rejects.toBe(error);
  });

  it('is not for a target that is gone', async () => {
    await expect(solvers()({ ...method, target: 'tgt_9' }, 'ord_1')).rejects.toMatchObject({ code: 'target_unknown' });
  });

  it('listens as long as the order presents one challenge there, however many it drops', async () => {
    const [a, b] = [challenge('a'), challenge('b')];
    const order = await presenting(a, b);
    const { challengeListeners, orders } = pipeline.store;
    await challengeListeners.want(order.id, 'tgt_1');
    const one = await orders.save(order, { ...order, presented: [b] } as Order, []);
    expect(await challengeListeners.isWanted(order.id, 'tgt_1')).toBe(true);
    if (one) await orders.save(one, { ...one, presented: [] } as Order, []);
    expect(await challengeListeners.isWanted(order.id, 'tgt_1')).toBe(false);
  });
});

describe('the look from outside', () => {
  it('is asked as the configuration says, and counts', async () => {
    const keys: (string | undefined)[] = [];
    const outside = createServer((request, response) => {
      keys.push(request.headers.authorization);
      response.end(JSON.stringify({ ok: false, reason: 'no route to host' }));
    });
    await new Promise<void>((resolve) => outside.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(outside.address() as AddressInfo).port}/`;
    const env = { HTTP01_SELF_CHECK: 'false', EXTERNAL_CHECK_URL: url, EXTERNAL_CHECK_KEY: 'k3y' };
    const solver = await solvers(env)({ type: 'http-01', via: 'responder' }, 'ord_1');
    const presented = await solver.prepare(open('a.example.com'), forever);
    await expect(solver.check(presented, forever)).rejects.toMatchObject({
      code: 'http01_unreachable',
      message: expect.stringMatching(/seen from outside: no route to host$/),
    });
    expect(keys).toEqual(['Bearer k3y']);
    outside.closeAllConnections();
    await new Promise((resolve) => outside.close(resolve));
  });
});

describe('what is left of http-01', () => {
  const dns = { open: () => Promise.reject(new Error('nobody asks')) };
  const remover = (roots: string[] = []) =>
    createRemover({ dns, store: pipeline.store, requests: hosts, webroots: createWebroots(roots) });
  const common = { order: 'ord_1', at: 5, token: 'a' };

  it('on the host of a target is taken away by it', async () => {
    const one: CleanUp = { ...common, kind: 'target', target: 'tgt_1', site: 3 };
    await remover()(one, forever);
    expect(asked).toEqual(['remove tgt_1 3 a']);
    await expect(remover()({ ...one, target: 'tgt_9' }, forever)).rejects.toMatchObject({ code: 'target_unknown' });
  });

  it('in a folder is taken away, as long as that is one of WEBROOTS', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'certline-left-'));
    await createWebroots([folder]).write(folder, 'a', 'a.x');
    const one: CleanUp = { ...common, kind: 'webroot', folder };
    await expect(remover()(one, forever)).rejects.toMatchObject({ code: 'webroot_not_allowed' });
    await remover([folder])(one, forever);
    expect(await readdir(folder)).toEqual([]);
    await rm(folder, { recursive: true });
  });
});
