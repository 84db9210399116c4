import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import type { IisHost } from '#libs/iis/iis-host';
import type { Certificate } from '#libs/model/certificate';
import type { DriftFinding } from '#libs/model/drift';
import type { TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { newDeployment } from '#libs/model/transitions';
import { createDriftCheck } from '../../services/deployment-worker/drift-check.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { places } from '../support/drift-findings.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** Looks at a host that was changed behind certline's back, and repairs of what was found. */
let server: Redis;
const { signal } = new AbortController();

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());

describe('a host', () => {
  let web: Deployments;
  let old: Certificate;
  let fresh: Certificate;
  let host: IisHost;

  const names = ['www.example.com', 'api.example.com'];
  const toSite = { mode: 'site', site: 1 } as const;
  const [www, api] = ['1|https|*:443:www.example.com', '1|https|*:443:api.example.com'];

  async function look(): Promise<DriftFinding> {
    const { store } = web.pipeline;
    const target = (await store.targets.get('tgt_1')) as Target;
    const openTarget = () => expect.fail('it is a host');
    return createDriftCheck({ ...store, openHost: () => host, openTarget, clock })(target, signal);
  }
  /** Deploys again what a look found, as a repair does. */
  async function repair({ differences }: DriftFinding) {
    const { store } = web.pipeline;
    const found = (await store.expectations.of('tgt_1')).filter((one) =>
      differences.some(({ place }) => place === one.place),
    );
    const [first] = found;
    const certificate = await store.certificates.get(first?.certificate ?? '');
    if (!first || !certificate) throw new Error('there is nothing to repair');
    return web.deploy(certificate, { ...first.deploy, only: found.map(({ place }) => place) });
  }
  const removeBinding = (bindingInformation: string) =>
    web.writeConfig((text) =>
      text.replace(new RegExp(`<binding [^>]*"${bindingInformation.replace('*', '\\*')}"[^>]*/>`), ''),
    );

  beforeEach(async () => {
    web = await openDeployments(server);
    host = web.host;
    [old, fresh] = [await web.certificate(['*.example.com'], 'ec-p256', 1), await web.certificate(names)];
    await web.addSite(1, ['*:80:www.example.com', '*:443:api.example.com']);
    web.start();
  });
  afterEach(() => web.close());

  it('of which nothing is expected is not touched', async () => {
    host = wrapped(web.host, { read: () => expect.fail('nobody reads it') });
    const nothing = { target: 'tgt_1', state: 'nothing', places: 0, differences: [], error: null };
    expect(await look()).toEqual({ ...nothing, checkedAt: expect.any(Number) });
  });

  it('that has what was deployed is in order, whatever others add to it', async () => {
    await web.deploy(fresh, toSite);
    await web.addSite(2, ['*:443:other.example.com']);
    await web.bind(old, 2, '*:443:other.example.com');
    await web.bind(old, 1, '*:8443:www.example.com');
    expect(await look()).toMatchObject({ state: 'in_sync', places: 2, differences: [], error: null });
  });

  it('on which somebody changed a binding by hand has drifted there, until it is repaired', async () => {
    const { id } = await web.deploy(fresh, toSite);
    await web.bind(old, 1, '*:443:www.example.com');
    const finding = await look();
    expect(finding).toMatchObject({ state: 'drifted', places: 2, error: null });
    expect(finding.differences).toEqual([
      {
        ...{ place: www, site: 'site1', order: id, certificate: fresh.id, unrepairable: null },
        ...{ expected: { thumbprint: fresh.thumbprint, store: 'My' } },
        ...{ actual: { thumbprint: old.thumbprint, store: 'My' } },
        detail: `*:443:www.example.com of site1 has ${old.thumbprint}, an older certificate of certline (${old.id}), instead of ${fresh.thumbprint}`,
      },
    ]);
    expect(await repair(finding)).toMatchObject({ status: 'deployed' });
    expect(await look()).toMatchObject({ state: 'in_sync', places: 2 });
    expect((await web.pipeline.store.expectations.of('tgt_1')).map(({ place }) => place)).toEqual([api, www]);
  });

  it('on which somebody wrote a host name in other letters is in order, and is repaired there', async () => {
    await web.deploy(fresh, toSite);
    await web.writeConfig((text) => text.replaceAll('*:443:www.example.com', '*:443:WWW.Example.com'));
    expect(await look()).toMatchObject({ state: 'in_sync', places: 2, differences: [] });
    await web.bind(old, 1, '*:443:WWW.Example.com');
    const finding = await look();
    expect(finding.differences).toMatchObject([{ place: www, unrepairable: null }]);
    expect(await repair(finding)).toMatchObject({ status: 'deployed' });
    expect(await look()).toMatchObject({ state: 'in_sync', places: 2 });
    expect((await web.pipeline.store.expectations.of('tgt_1')).map(({ place }) => place)).toEqual([api, www]);
  });

  it('from which somebody removed a binding gets it back where a deployment would add it', async () => {
    await web.deploy(fresh, toSite);
    await removeBinding('*:443:www.example.com');
    await removeBinding('*:443:api.example.com');
    const finding = await look();
    expect(places(finding)).toEqual([
      expect.stringMatching(/api\.example\.com is gone from site1 — .*add the binding, or an http binding/),
      `${www}: *:443:www.example.com is gone from site1`,
    ]);
    expect(await repair({ ...finding, differences: finding.differences.slice(1) })).toMatchObject({
      status: 'deployed',
    });
    expect((await look()).differences.map(({ place }) => place)).toEqual([api]);
  });

  it('from which a site is gone has drifted for good', async () => {
    await web.deploy(fresh, toSite);
    await web.writeConfig((text) => text.replace(/<site name="site1"[\s\S]*?<\/site>\s*/, ''));
    expect(places(await look())).toEqual([
      `${api}: site 1 is gone — site 1 is gone`,
      `${www}: site 1 is gone — site 1 is gone`,
    ]);
  });

  it('where a newer certificate took over one place of two is in order', async () => {
    await web.deploy(fresh, toSite);
    await web.deploy(await web.certificate(['www.example.com']), toSite);
    expect(await look()).toMatchObject({ state: 'in_sync', places: 2 });
  });

  it('that an order has reached and not yet been saved for is in order', async () => {
    await web.deploy(old, { ...toSite });
    const id = await web.order(fresh, toSite);
    await web.settled(id);
    expect(await look()).toMatchObject({ state: 'in_sync' });
    const next = await web.certificate(names);
    const waiting = await web.pipeline.place({ deploy: { ...toSite, target: 'tgt_1' } }, (order) => ({
      ...newDeployment(order.id, order.request, next.id, order.createdAt),
    }));
    await web.run([waiting.id]);
    expect(await web.bindings()).toContain(`1 *:443:www.example.com 1 ${next.thumbprint}`);
    expect(await look()).toMatchObject({ state: 'in_sync', places: 2 });
  });

  it('whose ftp site was changed has drifted, until it is repaired', async () => {
    await web.writeConfig((text) =>
      text.replace(
        '</sites>',
        '<site name="files" id="3" serverAutoStart="false"><bindings><binding protocol="ftp" bindingInformation="*:21:www.example.com"/></bindings></site></sites>',
      ),
    );
    host = wrapped(web.host, { answersOnlyItself: () => true });
    const unseen = (own: IisHost) => wrapped(own, { answersOnlyItself: () => true });
    const { store } = web.pipeline;
    const deploy = async (certificate: Certificate, more: Partial<TargetDeploy> = {}) => {
      const request = { deploy: { mode: 'site' as const, site: 3, target: 'tgt_1', ...more } };
      const order = await web.pipeline.place(request, ({ id, request, createdAt }) =>
        newDeployment(id, request, certificate.id, createdAt),
      );
      const [outcome] = await web.run([order.id], unseen);
      if (!outcome || !('deployed' in outcome)) throw new Error(JSON.stringify(outcome));
      await store.orders.save(order, outcome.deployed, [], outcome.also);
    };
    await deploy(fresh);
    expect(await look()).toMatchObject({ state: 'in_sync', places: 1 });
    await web.writeConfig((text) => text.replace(fresh.thumbprint, old.thumbprint));
    const finding = await look();
    expect(places(finding)).toEqual([expect.stringMatching(/^3\|ftp\|: ftp of files has .*an older certificate/)]);
    await deploy(fresh, { only: ['3|ftp|'] });
    expect(await look()).toMatchObject({ state: 'in_sync', places: 1 });
  });

  it('that does not answer is unknown, with the reason', async () => {
    await web.deploy(fresh, toSite);
    await web.faults({ unreachable: true });
    expect(await look()).toMatchObject({
      ...{ state: 'unknown', places: 2, differences: [] },
      error: { code: 'target_unreachable', detail: expect.any(String) },
    });
  });

  it('is looked at no longer when the worker stops', async () => {
    await web.deploy(fresh, toSite);
    const { store } = web.pipeline;
    const stop = new AbortController();
    const read = async () => {
      stop.abort(new Error('stopping'));
      throw new Error('read breaks off');
    };
    const openHost = () => wrapped(web.host, { read });
    const check = createDriftCheck({ ...store, openHost, openTarget: () => expect.fail('it is a host'), clock });
    await expect(check((await store.targets.get('tgt_1')) as Target, stop.signal)).rejects.toThrow('stopping');
  });
});
