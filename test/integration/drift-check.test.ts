import { createPrivateKey, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { describeCertificate } from '#libs/crypto/x509';
import type { IisHost } from '#libs/iis/iis-host';
import type { Certificate } from '#libs/model/certificate';
import { credentialSecretName } from '#libs/model/credential';
import type { DriftFinding } from '#libs/model/drift';
import { newId } from '#libs/model/ids';
import type { TargetDeploy } from '#libs/model/order';
import type { DeliveryTarget, Target } from '#libs/model/target';
import { newDeployment } from '#libs/model/transitions';
import { createCertificateReader } from '#libs/service/certificate-reader';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createDeliverHandler } from '../../services/deployment-worker/deliver.ts';
import { createDriftCheck } from '../../services/deployment-worker/drift-check.ts';
import { createTargetOpener } from '../../services/deployment-worker/open-target.ts';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { type Deployments, openDeployments, wrapped } from '../support/deployments.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { orderRequest } from '../support/sample-orders.ts';

/** Looks at real targets that were changed behind certline's back, and repairs of what was found. */
let server: Redis;
const { signal } = new AbortController();
const places = ({ differences }: DriftFinding) =>
  differences.map(
    ({ place, detail, unrepairable }) => `${place}: ${detail}${unrepairable ? ` — ${unrepairable}` : ''}`,
  );

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

describe('a folder or a central store', () => {
  let pipeline: Pipeline;
  let path: string;
  let count = 0;

  const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));
  const issuer = createRootCa().intermediate('Test Intermediate');
  const common = { pool: 'default', windows: [], drift: 'report' as const, createdAt: 0 };
  const folder = (): DeliveryTarget => ({
    ...{ id: 'tgt_files', name: 'files', kind: 'folder', path, pfx: null, command: null, ...common },
  });
  const central = (): DeliveryTarget => ({
    ...{ id: 'tgt_ccs', name: 'ccs', kind: 'ccs', path, credential: 'cred_1', form: 'aes-256', ...common },
  });
  const openTarget = (target: DeliveryTarget) =>
    createTargetOpener({ store: pipeline.store, box, clock, allowCommands: false, allowPrivateWebhooks: false })(
      target,
    );

  async function certificate(
    names: string[],
    more: { createdAt?: number; notAfter?: number } = {},
  ): Promise<Certificate> {
    count += 1;
    const { store } = pipeline;
    const privateKey = `crt_${count}.1`;
    const pem = await createPrivateKeys(store.secrets, box).obtain(privateKey, () => generatePrivateKey('ec-p256'));
    const leaf = issuer.issue({ key: createPrivateKey(pem), names });
    const record = {
      ...{ ...describeCertificate(leaf), leaf, privateKey, renewAt: 0, createdAt: Date.now(), ...more },
      ...{ id: `crt_${count}`, order: 'ord_1', account: 'acc_1', names, keyType: 'ec-p256' as const },
    };
    return store.certificates.create(record, issuer.chainPem);
  }
  /** Delivers as the stage does; answers `deployed`, or the code of the error. */
  async function deliver(target: DeliveryTarget, of: Certificate[], only?: string[], placed = Date.now()) {
    const { store } = pipeline;
    const deploy: TargetDeploy = { mode: 'store', target: target.id, ...(only ? { only } : {}) };
    const orders = of.map((one) => newDeployment(newId('order', placed), orderRequest({ deploy }), one.id, placed));
    const openCertificate = createCertificateReader(store, box);
    const handler = createDeliverHandler({ ...store, findTarget: async () => target, openTarget, openCertificate });
    const stored = await Promise.all(orders.map(async (order) => (await store.orders.place(order)).order));
    const outcomes = await handler.run(target.id, stored as never, { clock, log: pipeline.resources.log, signal });
    for (const outcome of outcomes) {
      const order = stored.find(({ id }) => id === outcome.id);
      if (order && 'deployed' in outcome) await store.orders.save(order, outcome.deployed, [], outcome.also);
    }
    return outcomes.map((one) => ('deployed' in one ? 'deployed' : one.error.code));
  }
  const check = (target: Target) => {
    const openHost = () => expect.fail('it is no host');
    return createDriftCheck({ ...pipeline.store, openHost, openTarget, clock })(target, signal);
  };
  const expected = async (target: Target) =>
    (await pipeline.store.expectations.of(target.id)).map((one) => `${one.place} ${one.certificate}`);

  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'certline-drift-'));
    pipeline = openPipeline(server);
    const name = credentialSecretName('cred_1');
    await pipeline.store.credentials.create({ id: 'cred_1', name: 'pfx', kind: 'secret', createdAt: 0 }, [
      pipeline.store.secrets.putting(name, box.seal(name, JSON.stringify({ secret: 'one password' }))),
    ]);
  });
  afterEach(async () => {
    await pipeline.close();
    await rm(path, { recursive: true, force: true });
  });

  it('of which nothing is expected is not opened', async () => {
    expect(await check({ ...folder(), path: '/no such folder' } as Target)).toMatchObject({ state: 'nothing' });
  });

  it('has drifted where somebody changed a file, until it is repaired', async () => {
    const [one, two] = [await certificate(['www.example.com', 'b.example.com']), await certificate(['*.example.com'])];
    expect(await deliver(folder(), [one, two])).toEqual(['deployed', 'deployed']);
    expect(await expected(folder())).toEqual([`_.example.com ${two.id}`, `www.example.com ${one.id}`]);
    expect(await check(folder())).toMatchObject({ state: 'in_sync', places: 2, differences: [] });
    await writeFile(join(path, 'www.example.com', 'cert.pem'), 'something else');
    const finding = await check(folder());
    expect(finding).toMatchObject({ state: 'drifted', places: 2, differences: [{ actual: { thumbprint: null } }] });
    expect(places(finding)).toEqual([`www.example.com: cert.pem is not that of ${one.thumbprint}`]);
    expect(await deliver(folder(), [one], ['www.example.com'])).toEqual(['deployed']);
    expect(await check(folder())).toMatchObject({ state: 'in_sync' });
    await rm(join(path, '_.example.com'), { recursive: true });
    expect((await check(folder())).differences).toMatchObject([{ place: '_.example.com', actual: null }]);
  });

  it('is compared by the files alone that no newer certificate has taken over', async () => {
    const older = await certificate(['a.example.com', 'b.example.com']);
    await deliver(central(), [older]);
    const newer = await certificate(['b.example.com']);
    await deliver(central(), [newer]);
    expect(await expected(central())).toEqual([`a.example.com.pfx ${older.id}`, `b.example.com.pfx ${newer.id}`]);
    expect(await check(central())).toMatchObject({ state: 'in_sync', places: 2 });
    await writeFile(join(path, 'a.example.com.pfx'), await readFile(join(path, 'b.example.com.pfx')));
    const finding = await check(central());
    expect(places(finding)).toEqual([
      `a.example.com.pfx: a.example.com.pfx holds ${newer.thumbprint} instead of ${older.thumbprint}`,
    ]);
    expect(await deliver(central(), [older], ['a.example.com.pfx'])).toEqual(['deployed']);
    expect(await check(central())).toMatchObject({ state: 'in_sync', places: 2 });
    await rm(join(path, 'b.example.com.pfx'));
    expect((await check(central())).differences).toMatchObject([
      { place: 'b.example.com.pfx', certificate: newer.id, actual: null, detail: 'b.example.com.pfx is missing' },
    ]);
  });

  it('keeps a newer certificate when an order comes late, and takes an older one that is asked for since', async () => {
    const older = await certificate(['a.example.com', 'b.example.com']);
    const newer = await certificate(['a.example.com'], { createdAt: Date.now() + 60_000 });
    expect(await deliver(folder(), [newer, older])).toEqual(['deployed', 'superseded']);
    expect(await expected(folder())).toEqual([`a.example.com ${newer.id}`]);
    expect(await deliver(central(), [newer])).toEqual(['deployed']);
    expect(await deliver(central(), [older])).toEqual(['deployed']);
    expect(await expected(central())).toEqual([`a.example.com.pfx ${newer.id}`, `b.example.com.pfx ${older.id}`]);
    expect(await check(central())).toMatchObject({ state: 'in_sync' });
    expect(await deliver(folder(), [older], undefined, Date.now() + 120_000)).toEqual(['deployed']);
    expect(await expected(folder())).toEqual([`a.example.com ${older.id}`]);
    expect(await check(folder())).toMatchObject({ state: 'in_sync' });
  });

  it('writes nothing when a repair is for places of other certificates', async () => {
    expect(await deliver(central(), [await certificate(['a.example.com'])], ['b.example.com.pfx'])).toEqual([
      'target_refused',
    ]);
  });

  it('whose certificate has expired or is gone has drifted for good', async () => {
    const expired = await certificate(['a.example.com'], { notAfter: Date.now() - 1 });
    const gone = await certificate(['b.example.com']);
    await deliver(folder(), [expired, gone]);
    await rm(join(path, 'a.example.com'), { recursive: true });
    await pipeline.redis.del(pipeline.store.keys.certificate(gone.id));
    expect(places(await check(folder()))).toEqual([
      expect.stringMatching(/^a\.example\.com: .* is missing — the certificate expired at /),
      `b.example.com: certificate ${gone.id} is gone from certline, so that b.example.com cannot be compared — certificate ${gone.id} is gone from certline: order a new one`,
    ]);
  });

  it('that is not there is unknown, with the reason', async () => {
    await deliver(folder(), [await certificate(['a.example.com'])]);
    await rm(path, { recursive: true });
    expect(await check(folder())).toMatchObject({ state: 'unknown', error: { code: 'target_unreachable' }, places: 1 });
    await pipeline.redis.hset(pipeline.store.keys.expectations('tgt_ccs'), 'x', '');
    expect(await check(central())).toMatchObject({ state: 'nothing' });
  });
});
