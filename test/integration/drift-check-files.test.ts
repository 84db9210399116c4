import { createPrivateKey, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { systemClock as clock } from '#libs/clock';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { describeCertificate } from '#libs/crypto/x509';
import type { Certificate } from '#libs/model/certificate';
import { credentialSecretName } from '#libs/model/credential';
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
import { places } from '../support/drift-findings.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { orderRequest } from '../support/sample-orders.ts';

/** Looks at folders and central stores that were changed behind certline's back, and repairs of what was found. */
let server: Redis;
const { signal } = new AbortController();

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());

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
