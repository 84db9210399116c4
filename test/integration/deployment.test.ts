import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Certificate } from '#libs/model/certificate';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments } from '../support/deployments.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** What a deployment does to the bindings of a host, and what it leaves alone. */
let server: Redis;
let web: Deployments;
let old: Certificate;
let fresh: Certificate;

const names = ['www.example.com', 'api.example.com'];
const isDeployed = { status: 'deployed', error: null, attempts: { deployment: 0 } };
/** A line of `bindings()`. */
const line = (site: number, binding: string, certificate: Certificate | null, flags = 1) =>
  `${site} ${binding} ${flags} ${certificate?.thumbprint ?? null}`;

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  web = await openDeployments(server);
  [old, fresh] = [await web.certificate(['*.example.com']), await web.certificate(names)];
});
afterEach(() => web.close());

describe('mode site', () => {
  it('updates the https bindings that are there, adds those that are missing, and touches nothing else', async () => {
    await web.addSite(1, [
      '*:80:www.example.com',
      '*:80:api.example.com',
      '*:443:www.example.com',
      '*:443:other.example.com',
      '*:443:',
    ]);
    await web.addSite(2, ['*:80:api.example.com', '*:8443:www.example.com']);
    for (const binding of ['*:443:www.example.com', '*:443:other.example.com']) await web.bind(old, 1, binding);
    await web.bind(old, 1, '*:443:', 0);
    await web.bind(old, 2, '*:8443:www.example.com');
    const [commits, config] = [await web.commits(), await web.config()];
    web.start();
    expect(await web.deploy(fresh, { mode: 'site', site: 1 })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([
      line(1, '*:443:www.example.com', fresh),
      line(1, '*:443:other.example.com', old),
      line(1, '*:443:', old, 0),
      line(1, '*:443:api.example.com', fresh),
      line(2, '*:8443:www.example.com', old),
    ]);
    expect(await web.commits()).toBe(commits + 1);
    const added = '<binding protocol="https" bindingInformation="*:443:api.example.com" sslFlags="1"/>';
    const [before, after] = [config.split('\n'), (await web.config()).split('\n')];
    expect(after.filter((one) => one.trim() !== added)).toEqual(before);
    expect(after).toHaveLength(before.length + 1);
  });

  it('leaves the configuration file as it is, what it does not know in it too, when it only updates', async () => {
    await web.addSite(1, ['*:443:www.example.com']);
    const odd =
      '<site id="7" name="A &amp; B&#10;" x="&lt;"><!-- a > b & "c" --><ftpServer><ssl a="1"/></ftpServer><bindings>\n<binding protocol="net.tcp" bindingInformation="808:*" y="&quot;"/></bindings></site>';
    await web.writeConfig((text) =>
      text.replace('</sites>', `${odd}</sites>`).replace('sslFlags="1"', 'sslFlags="33"'),
    );
    const config = await web.config();
    web.start();
    expect(await web.deploy(fresh, { mode: 'site', site: 1 })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([line(1, '*:443:www.example.com', fresh, 33)]);
    expect(await web.config()).toBe(config);
  });

  it('adds no binding where only updates are wanted', async () => {
    await web.addSite(1, ['*:80:api.example.com', '*:443:www.example.com']);
    web.start();
    expect(await web.deploy(fresh, { mode: 'site', site: 1, updateOnly: true })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([line(1, '*:443:www.example.com', fresh)]);
  });

  it('adds bindings for names without any, at the port that is wanted, where that is wanted', async () => {
    await web.addSite(1, ['*:80:www.example.com']);
    web.start();
    const order = await web.deploy(fresh, { mode: 'site', site: 1, addMissing: true, port: 8443 });
    expect(order).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([
      line(1, '*:8443:api.example.com', fresh),
      line(1, '*:8443:www.example.com', fresh),
    ]);
  });

  it('deploys to a site that is stopped, and warns of it', async () => {
    await web.addSite(1, ['*:443:www.example.com'], 'Stopped');
    web.start();
    expect(await web.deploy(fresh, { mode: 'site', site: 1 })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([line(1, '*:443:www.example.com', fresh)]);
    expect(web.warnings.join()).toContain('site 1 is not started');
  });
});

describe('modes auto and all', () => {
  beforeEach(async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:']);
    await web.addSite(2, ['*:443:api.example.com', '*:443:other.example.org']);
    await web.addSite(3, ['*:80:api.example.com'], 'Stopped');
    await web.addSite(4, ['*:80:other.example.org']);
    web.start();
  });
  const everywhere = () => [
    line(1, '*:443:www.example.com', fresh),
    line(2, '*:443:api.example.com', fresh),
    line(2, '*:443:other.example.org', null),
  ];

  it('auto serves every started site with a host of the certificate, and no binding without a host', async () => {
    expect(await web.deploy(fresh, { mode: 'auto', blankHost: true })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([line(1, '*:443:', null, 0), ...everywhere()]);
    expect(await web.commits()).toBe(1);
  });

  it('all serves bindings without a host too, where that is wanted', async () => {
    expect(await web.deploy(fresh, { mode: 'all', blankHost: true })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([line(1, '*:443:', fresh, 0), ...everywhere()]);
  });

  it('all leaves them alone where it is not', async () => {
    expect(await web.deploy(fresh, { mode: 'all' })).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([line(1, '*:443:', null, 0), ...everywhere()]);
  });
});

describe('modes store and none', () => {
  it.each(['My', 'WebHosting'] as const)('store installs the certificate in %s and binds nothing', async (store) => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    const state = await web.state();
    web.start();
    expect(await web.deploy(fresh, { mode: 'store', store })).toMatchObject(isDeployed);
    expect(await web.state()).toEqual(state);
    expect(await web.commits()).toBe(0);
    // Only a certificate that is in the store can be bound.
    const change = { op: 'update', siteId: 1, protocol: 'https', bindingInformation: '*:443:api.example.com' } as const;
    const { thumbprint } = fresh;
    const expected = { thumbprint: null, sslFlags: 1 };
    await web.host.apply([{ ...change, sslFlags: 1, thumbprint, store, expect: expected }], AbortSignal.timeout(9_000));
    expect(await web.bindings()).toEqual([line(1, '*:443:api.example.com', fresh)]);
  });

  it('none is complete once it is issued: it gets no job and cannot be due', async () => {
    const { id } = await web.pipeline.enqueue({ deploy: { mode: 'none' } }, (order) => ({
      ...order,
      status: 'issued',
      certificate: fresh.id,
    }));
    const order = await web.pipeline.read(id);
    expect(await web.pipeline.producer.ensureJob(order)).toBe(false);
    expect(await web.pipeline.queue('deployment').getJobCounts()).toMatchObject({ waiting: 0, delayed: 0 });
    expect(await web.pipeline.store.orders.overdue(Date.now() + 3_600_000, 10)).toEqual([]);
  });
});

describe('a certificate', () => {
  it('that is bound already is left alone, without a commit', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    web.start();
    expect(await web.deploy(fresh, { mode: 'site', site: 1 })).toMatchObject(isDeployed);
    const state = await web.state();
    expect(await web.deploy(fresh, { mode: 'site', site: 1 })).toMatchObject(isDeployed);
    expect(await web.state()).toEqual(state);
    expect(await web.commits()).toBe(1);
  });

  it.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)('with a key of %s is served', async (keyType) => {
    await web.addSite(1, ['*:80:www.example.com']);
    web.start();
    expect(await web.deploy(await web.certificate(names, keyType), { mode: 'site', site: 1 })).toMatchObject(
      isDeployed,
    );
  });

  it.each(['ec-p256', 'rsa-2048'] as const)(
    'with a key of %s reaches a Server 2016 in a form it reads',
    async (keyType) => {
      const server2016 = await openDeployments(server, { osBuild: 14_393 });
      try {
        await server2016.addSite(1, ['*:80:www.example.com']);
        server2016.start();
        const certificate = await server2016.certificate(names, keyType);
        expect(await server2016.deploy(certificate, { mode: 'site', site: 1 })).toMatchObject(isDeployed);
        expect(await server2016.bindings()).toEqual([line(1, '*:443:www.example.com', certificate)]);
      } finally {
        await server2016.close();
      }
    },
  );
});

describe('orders that are due together', () => {
  it('share a commit where they change different bindings', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:80:shop.example.org']);
    const other = await web.certificate(['shop.example.org']);
    const ids = [await web.order(fresh, { mode: 'site', site: 1 }), await web.order(other, { mode: 'site', site: 1 })];
    web.start();
    for (const id of ids) expect(await web.settled(id)).toMatchObject(isDeployed);
    expect(await web.bindings()).toEqual([
      line(1, '*:443:www.example.com', fresh),
      line(1, '*:443:shop.example.org', other),
    ]);
    expect(await web.commits()).toBe(1);
  });

  it('come one after the other where they change the same binding, and the later one stays', async () => {
    await web.addSite(1, ['*:80:www.example.com', '*:80:api.example.com']);
    const first = await web.order(old, { mode: 'site', site: 1 }, Date.now() - 1_000);
    const second = await web.order(fresh, { mode: 'site', site: 1 });
    web.start();
    for (const id of [first, second]) expect(await web.settled(id)).toMatchObject(isDeployed);
    expect((await web.bindings()).toSorted()).toEqual([
      line(1, '*:443:api.example.com', fresh),
      line(1, '*:443:www.example.com', fresh),
    ]);
    expect(await web.commits()).toBe(2);
  });
});
