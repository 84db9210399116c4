import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Certificate } from '#libs/model/certificate';
import type { IisTarget } from '#libs/model/target';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** What deployments to an IIS host leave in the store for the looks to come, and what a late order may not do any more. */
let server: Redis;
let redis: RedisClient;

const target = 'tgt_1';
const names = ['www.example.com', 'api.example.com'];
const toSite = { mode: 'site', site: 1 } as const;
const isDeployed = { status: 'deployed', error: null };
const [www, api] = ['1|https|*:443:www.example.com', '1|https|*:443:api.example.com'];

beforeAll(async () => {
  server = await startTestRedis();
  redis = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis?.disconnect();
  await server?.close();
});

describe('a deployment', () => {
  let web: Deployments;
  let first: Certificate;
  let second: Certificate;

  const expected = () => web.pipeline.store.expectations.of(target);
  const lines = async () => (await expected()).map((one) => `${one.place} ${one.certificate} ${one.order}`);
  const served = async () => (await web.bindings()).map((line) => line.split(' ').at(-1));
  /** A certificate that is issued when all orders of now are placed. */
  const newer = (some: readonly string[]) => web.certificate(some, 'ec-p256', Date.now() + 60_000);

  beforeEach(async () => {
    web = await openDeployments(server);
    first = await web.certificate(names, 'ec-p256', Date.now() - 1_000);
    second = await web.certificate(['www.example.com']);
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
  });
  afterEach(() => web.close());

  it('is expected to last at every place that it brought the certificate to', async () => {
    web.start();
    const { id, updatedAt } = await web.deploy(first, { ...toSite, store: 'WebHosting', replace: 'ours' });
    const { thumbprint } = first;
    const deploy = { ...toSite, target, store: 'WebHosting', replace: 'ours' };
    const common = { order: id, certificate: first.id, thumbprint, store: 'WebHosting', sslFlags: 1, deploy };
    const [one, two] = await expected();
    expect([one, two]).toEqual([
      { ...common, place: api, at: expect.any(Number) },
      { ...common, place: www, at: expect.any(Number) },
    ]);
    expect(one?.at).toBeLessThanOrEqual(updatedAt);
  });

  it('takes the place over from an older one where both are for it, and leaves it the others', async () => {
    web.start();
    const { id: older } = await web.deploy(first, toSite);
    const { id: later } = await web.deploy(second, toSite);
    expect(await lines()).toEqual([`${api} ${first.id} ${older}`, `${www} ${second.id} ${later}`]);
  });

  it('that finds everything done leaves it to the order that did it, also for other sites', async () => {
    await web.addSite(2, ['*:8443:www.example.com']);
    web.start();
    const { id } = await web.deploy(first, { mode: 'auto' });
    await web.deploy(first, toSite);
    await web.deploy(first, { mode: 'auto' });
    const other = `2|https|*:8443:www.example.com ${first.id} ${id}`;
    expect(await lines()).toEqual([`${api} ${first.id} ${id}`, `${www} ${first.id} ${id}`, other]);
  });

  it('that was cut off between the commit and its save is known after the next run', async () => {
    const id = await web.order(first, toSite);
    expect(await web.run([id])).toMatchObject([{ deployed: { status: 'deployed' } }]);
    expect(await lines()).toEqual([]);
    const commits = await web.commits();
    web.start();
    expect(await web.settled(id)).toMatchObject(isDeployed);
    expect(await web.commits()).toBe(commits);
    expect(await lines()).toEqual([`${api} ${first.id} ${id}`, `${www} ${first.id} ${id}`]);
  });

  it('that failed, or only imported, changes nothing of what is expected', async () => {
    web.start();
    const { id } = await web.deploy(first, toSite);
    const before = await lines();
    await web.faults({ serveOld: true });
    expect(await web.deploy(second, toSite)).toMatchObject({ error: { code: 'handshake_mismatch' } });
    await web.faults({ serveOld: false });
    expect(await web.deploy(await web.certificate(names), { mode: 'store' })).toMatchObject(isDeployed);
    expect(await lines()).toEqual(before);
    expect(before[0]).toContain(id);
  });

  it('of several orders in one run is known as it is in the end', async () => {
    const ids = [await web.order(first, toSite, Date.now() - 1_000), await web.order(second, toSite)];
    web.start();
    for (const id of ids) expect(await web.settled(id)).toMatchObject(isDeployed);
    expect(await lines()).toEqual([`${api} ${first.id} ${ids[0]}`, `${www} ${second.id} ${ids[1]}`]);
  });

  it('to an ftp site is expected there', async () => {
    const record = (await web.pipeline.store.targets.get(target)) as IisTarget;
    const url = record.transport.kind === 'lab' ? record.transport.url : '';
    const bindings = [{ protocol: 'ftp', bindingInformation: '*:21:www.example.com', sslFlags: 0 }];
    const body = JSON.stringify({ id: 3, name: 'files', state: 'Stopped', bindings });
    expect((await fetch(`${url}/sites`, { method: 'POST', body })).ok).toBe(true);
    web.start();
    const { id } = await web.deploy(first, { mode: 'site', site: 3 });
    expect(await lines()).toEqual([`3|ftp| ${first.id} ${id}`]);
  });

  describe('for some places alone', () => {
    const repair = (only: string[], certificate = first) => web.deploy(certificate, { ...toSite, only });

    it('changes and expects nothing elsewhere, and is for the next time as the order before it', async () => {
      web.start();
      const { id } = await web.deploy(first, toSite);
      const ancient = await web.certificate(names, 'ec-p256', 1);
      for (const binding of ['*:443:www.example.com', '*:443:api.example.com']) await web.bind(ancient, 1, binding);
      const order = await repair([www]);
      expect(order).toMatchObject(isDeployed);
      expect((await web.bindings()).toSorted()).toEqual([
        `1 *:443:api.example.com 1 ${ancient.thumbprint}`,
        `1 *:443:www.example.com 1 ${first.thumbprint}`,
      ]);
      expect(await lines()).toEqual([`${api} ${first.id} ${id}`, `${www} ${first.id} ${order.id}`]);
      expect((await expected()).map(({ deploy }) => deploy)).toEqual([
        { ...toSite, target },
        { ...toSite, target },
      ]);
    });

    it('is done when somebody has put them right', async () => {
      web.start();
      await web.deploy(first, toSite);
      const [before, commits] = [await lines(), await web.commits()];
      expect(await repair([www])).toMatchObject(isDeployed);
      expect([await lines(), await web.commits()]).toEqual([before, commits]);
    });

    it('never puts its certificate over a newer one, whenever it was asked for', async () => {
      web.start();
      await web.deploy(first, toSite);
      // Issued after the first one, and there before the repair is asked for.
      await web.bind(second, 1, '*:443:www.example.com');
      const [state, before] = [await web.state(), await lines()];
      expect(second.createdAt).toBeGreaterThan(first.createdAt);
      expect(await repair([www])).toMatchObject({ status: 'failed', error: { code: 'superseded' } });
      expect([await web.state(), await lines()]).toEqual([state, before]);
    });

    it('does not take a newer certificate away that was deployed while it waited', async () => {
      web.start();
      await web.deploy(first, toSite);
      const late = await web.order(first, { ...toSite, only: [www] }, Date.now() + 60_000);
      await web.settled(late);
      const { id } = await web.deploy(second, toSite);
      expect(await repair([www, api])).toMatchObject(isDeployed);
      expect((await served()).toSorted()).toEqual([first.thumbprint, second.thumbprint].toSorted());
      expect((await lines()).at(-1)).toBe(`${www} ${second.id} ${id}`);
    });

    it('fails when nothing would put them right', async () => {
      web.start();
      await web.deploy(first, toSite);
      expect(await repair(['1|https|*:443:other.example.com'])).toMatchObject({
        ...{ status: 'failed', error: { code: 'nothing_to_bind' } },
      });
    });
  });

  describe('that comes late', () => {
    /** An order that fails at first, and is due again when something newer was deployed. */
    async function lateOrder(after: () => Promise<unknown>, certificate = first): Promise<string> {
      await web.faults({ unreachable: true });
      const { id } = await web.deploy(certificate, toSite);
      await web.faults({ unreachable: false });
      await after();
      return id;
    }

    it('does not put its certificate over newer ones: it is superseded', async () => {
      web.start();
      const fresh = await newer(names);
      const id = await lateOrder(() => web.deploy(fresh, toSite));
      const state = await web.state();
      const order = await web.hurry(id);
      expect(order).toMatchObject({ status: 'failed', error: { code: 'superseded' } });
      expect(order.error?.detail).toContain(`*:443:www.example.com (${fresh.id})`);
      expect(await web.state()).toEqual(state);
      expect(await lines()).toEqual([expect.stringContaining(fresh.id), expect.stringContaining(fresh.id)]);
    });

    it('goes where nothing newer is, and leaves the rest alone', async () => {
      web.start();
      const fresh = await newer(['www.example.com']);
      const id = await lateOrder(() => web.deploy(fresh, toSite));
      expect(await web.hurry(id)).toMatchObject(isDeployed);
      expect((await served()).toSorted()).toEqual([first.thumbprint, fresh.thumbprint].toSorted());
      expect(await lines()).toEqual([`${api} ${first.id} ${id}`, expect.stringContaining(`${www} ${fresh.id}`)]);
    });

    it('replaces what is older than its own certificate, and what is of somebody else', async () => {
      web.start();
      const ancient = await web.certificate(names, 'ec-p256', 1);
      const id = await lateOrder(() => web.deploy(ancient, toSite));
      expect(await web.hurry(id)).toMatchObject(isDeployed);
      expect(await served()).toEqual([first.thumbprint, first.thumbprint]);
    });

    it('as a part of a rollout is as old as that', async () => {
      const { store } = web.pipeline;
      const placed = Date.now() - 60_000;
      const whole = await web.pipeline.place({}, (order) => ({ ...order, createdAt: placed }));
      const between = await web.certificate(names, 'ec-p256', Date.now() - 1_000);
      const old = await web.certificate(names, 'ec-p256', placed);
      web.start();
      await web.deploy(between, toSite);
      const id = await web.order(old, toSite);
      const part = await web.settled(id);
      expect(part).toMatchObject(isDeployed);
      await web.deploy(between, toSite);
      const late = { ...part, id: 'ord_part', partOf: whole.id, status: 'issued', createdAt: Date.now() } as never;
      await store.orders.place(late);
      expect(await web.run(['ord_part'])).toMatchObject([{ error: { code: 'superseded' } }]);
    });

    it('has its place taken in the same run', async () => {
      const fresh = await newer(names);
      const ids = [await web.order(fresh, toSite), await web.order(first, toSite)];
      expect(await web.run(ids)).toMatchObject([
        { id: ids[0], deployed: {} },
        { id: ids[1], error: { code: 'superseded' } },
      ]);
      expect(await served()).toEqual([fresh.thumbprint, fresh.thumbprint]);
    });
  });

  it('that was asked for when the newer certificate was there is a roll-back, and is done', async () => {
    web.start();
    const ancient = await web.certificate(names, 'ec-p256', 1);
    await web.deploy(first, toSite);
    const { id } = await web.deploy(ancient, toSite);
    expect(await web.pipeline.read(id)).toMatchObject(isDeployed);
    expect(await served()).toEqual([ancient.thumbprint, ancient.thumbprint]);
    expect(await lines()).toEqual([`${api} ${ancient.id} ${id}`, `${www} ${ancient.id} ${id}`]);
  });
});
