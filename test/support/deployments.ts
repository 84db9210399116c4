import { createPrivateKey, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { systemClock } from '#libs/clock';
import { createPfx, pfxFormFor } from '#libs/crypto/pfx';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { describeCertificate } from '#libs/crypto/x509';
import { openIisHost } from '#libs/iis/hosts';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import type { Certificate, KeyType } from '#libs/model/certificate';
import type { Order, TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { issued, validated } from '#libs/model/transitions';
import type { TargetOutcome } from '#libs/queues/handler';
import { createCertificateReader } from '#libs/service/certificate-reader';
import { createHostAccess } from '#libs/service/host-access';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createUndoRecords, type UndoRecords } from '#libs/store/undo-records';
import { createDeployHandler } from '../../services/deployment-worker/deploy.ts';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { startLabIisHost } from '../../services/lab/iis-host/lab-iis-host.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { openPipeline, type Pipeline } from './pipeline.ts';
import { acmeOrder } from './sample-orders.ts';

type Placing = TargetDeploy;

/** The deployment stage as its process runs it, and a simulated IIS host. A retry does not come by itself within a test: `hurry` is for that. */
export interface Deployments {
  pipeline: Pipeline;
  host: IisHost;
  /** What commits under way are taken back with. */
  undo: UndoRecords;
  /** What the workers warned of. */
  warnings: string[];
  /** A stored certificate that does what it says, issued now unless told. */
  certificate(names: readonly string[], keyType?: KeyType, createdAt?: number): Promise<Certificate>;
  /** Orders the deployment of a certificate to the host. */
  order(certificate: Omit<Certificate, 'chain'>, deploy: Omit<Placing, 'target'>, issuedAt?: number): Promise<string>;
  /** Orders and waits for the end of the first attempt. */
  deploy(certificate: Omit<Certificate, 'chain'>, deploy: Omit<Placing, 'target'>): Promise<Order>;
  /** The order at the end of its attempt number `attempt`, or when it is deployed. */
  settled(id: string, attempt?: number): Promise<Order>;
  /** Makes the next attempt due and waits for its end. */
  hurry(id: string): Promise<Order>;
  start(openHost?: (host: IisHost) => IisHost): void;
  /** One run of the stage for these orders, in no queue: what a process does before it is killed, or after. */
  run(ids: readonly string[], openHost?: (host: IisHost) => IisHost): Promise<TargetOutcome[]>;
  addSite(id: number, bindings: readonly string[], state?: 'Started' | 'Stopped'): Promise<void>;
  /** Gives an https binding of the host this certificate, behind certline's back. */
  bind(
    certificate: Omit<Certificate, 'chain'>,
    siteId: number,
    bindingInformation: string,
    sslFlags?: number,
  ): Promise<void>;
  state(): Promise<HostState>;
  /** The https bindings of the host with their certificates, as `site binding flags thumbprint`. */
  bindings(): Promise<string[]>;
  commits(): Promise<number>;
  faults(faults: object): Promise<void>;
  config(): Promise<string>;
  writeConfig(change: (text: string) => string): Promise<void>;
  close(): Promise<void>;
}

/** A host that is another one but for some of its calls. */
export const wrapped = (host: IisHost, calls: Partial<IisHost>): IisHost => ({
  read: (...args) => host.read(...args),
  importPfx: (...args) => host.importPfx(...args),
  apply: (...args) => host.apply(...args),
  removeCertificate: (...args) => host.removeCertificate(...args),
  listenForChallenges: (...args) => host.listenForChallenges(...args),
  writeChallenge: (...args) => host.writeChallenge(...args),
  removeChallenge: (...args) => host.removeChallenge(...args),
  test: (...args) => host.test(...args),
  endpoint: (...args) => host.endpoint(...args),
  ...calls,
});

const root = createRootCa();
const issuer = root.intermediate('Test Intermediate');
const targetId = 'tgt_1';

export async function openDeployments(server: Redis, { osBuild = 20_348 } = {}): Promise<Deployments> {
  const dir = await mkdtemp(join(tmpdir(), 'certline-host-'));
  const lab = await startLabIisHost({ dir, osBuild });
  const warnings: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => warnings.push(line) });
  const pipeline = openPipeline(server, { retryDelayScale: 1_000, log });
  const { store, producer } = pipeline;
  const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));
  const privateKeys = createPrivateKeys(store.secrets, box);
  const target: Target = {
    ...{
      id: targetId,
      name: 'web01',
      kind: 'iis',
      pool: 'default',
      windows: [],
      drift: 'report' as const,
      createdAt: Date.now(),
    },
    transport: { kind: 'lab', url: lab.url },
  };
  await store.targets.create(target);
  const access = createHostAccess(store, box, target);
  const host = openIisHost(target, access);
  const { signal } = new AbortController();
  const openCertificate = createCertificateReader(store, box);
  const undo = createUndoRecords(pipeline.redis, store.keys);
  const handlerFor = (opened: IisHost) =>
    createDeployHandler({ ...store, findTarget: store.targets.get, openHost: () => opened, openCertificate, undo });
  let count = 0;

  const control = async (method: string, path: string, body?: object): Promise<unknown> => {
    const answer = await fetch(lab.url + path, { method, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!answer.ok) throw new Error(`the simulated host refuses ${path}: ${await answer.text()}`);
    return answer.json();
  };
  const path = join(dir, 'applicationHost.config');

  const deployments: Deployments = {
    pipeline,
    host,
    undo,
    warnings,
    async certificate(names, keyType = 'ec-p256', createdAt = Date.now()) {
      count += 1;
      const privateKey = `crt_${count}.1`;
      const pem = await privateKeys.obtain(privateKey, () => generatePrivateKey(keyType));
      const leaf = issuer.issue({ key: createPrivateKey(pem), names });
      const { serial, thumbprint, issuer: by, notBefore, notAfter } = describeCertificate(leaf);
      const record = {
        ...{ id: `crt_${count}`, order: 'ord_1', account: 'acc_1', names: [...names], keyType },
        ...{ serial, thumbprint, issuer: by, notBefore, notAfter, leaf, privateKey },
        ...{ renewAt: notAfter, createdAt },
      };
      return store.certificates.create(record, issuer.chainPem);
    },
    async order({ id, names, keyType }, deploy, now = Date.now()) {
      const request = { names, keyType, deploy: { ...deploy, target: targetId } };
      return (await pipeline.enqueue(request, (order) => issued(validated(order, acmeOrder, now), id, now))).id;
    },
    async deploy(certificate, deploy) {
      return deployments.settled(await deployments.order(certificate, deploy));
    },
    settled: (id, attempt = 1) =>
      pipeline.until(id, ({ status, attempts }) => status !== 'issued' || attempts.deployment >= attempt),
    async hurry(id) {
      const order = await pipeline.read(id);
      const due = { ...order, nextAttemptAt: null, updatedAt: Date.now() };
      if ((await store.orders.save(order, due, [])) === null) throw new Error(`${id} is being worked on`);
      await producer.wakeTarget(targetId);
      return deployments.settled(id, order.attempts.deployment + 1);
    },
    start(openHost = (own) => own) {
      pipeline.startTargets(handlerFor(openHost(openIisHost(target, access))));
    },
    async run(ids, openHost = (own) => own) {
      const orders = await Promise.all(ids.map(pipeline.read));
      const due = orders.filter((order) => order.status === 'issued');
      return handlerFor(openHost(openIisHost(target, access))).run(targetId, due, { clock: systemClock, log, signal });
    },
    async addSite(id, bindings, state = 'Started') {
      await control('POST', '/sites', {
        ...{ id, name: `site${id}`, state },
        bindings: bindings.map((text) => {
          const secure = !/:80:/.test(text);
          return {
            ...{ protocol: secure ? 'https' : 'http', bindingInformation: text },
            sslFlags: secure && !text.endsWith(':') ? 1 : 0,
          };
        }),
      });
    },
    async bind(certificate, siteId, bindingInformation, sslFlags = 1) {
      const { privateKeyPem, chainPem } = await openCertificate(certificate.id);
      const pfx = await createPfx({
        privateKeyPem,
        chainPem,
        password: 'x',
        friendlyName: 'old',
        form: pfxFormFor(osBuild),
      });
      const { thumbprint } = certificate;
      const kept = { store: 'My', friendlyName: 'old', exportable: false, readers: [] };
      await host.importPfx({ pfx, password: 'x', thumbprint, ...kept }, signal);
      const { sites } = await host.read(signal);
      const is = sites
        .find(({ id }) => id === siteId)
        ?.bindings.find((one) => one.bindingInformation === bindingInformation && one.protocol === 'https');
      const change = { siteId, protocol: 'https', bindingInformation, sslFlags, thumbprint, store: 'My' } as const;
      const expect = is ? { thumbprint: is.thumbprint, sslFlags: is.sslFlags } : null;
      await host.apply([{ ...change, op: is ? 'update' : 'add', expect }], signal);
    },
    state: () => host.read(signal),
    async bindings() {
      const { sites } = await host.read(signal);
      return sites.flatMap(({ id, bindings }) =>
        bindings
          .filter(({ protocol }) => protocol === 'https')
          .map((one) => `${id} ${one.bindingInformation} ${one.sslFlags} ${one.thumbprint}`),
      );
    },
    commits: async () => ((await control('GET', '/log')) as { count: number }).count,
    faults: async (faults) => {
      await control('PUT', '/faults', faults);
    },
    config: () => readFile(path, 'utf8'),
    writeConfig: async (change) => writeFile(path, change(await readFile(path, 'utf8'))),
    async close() {
      await pipeline.close();
      await lab.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
  return deployments;
}
