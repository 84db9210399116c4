import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#libs/clock';
import { describeCertificate } from '#libs/crypto/x509';
import { probeThumbprint } from '#libs/iis/handshake';
import { openIisHost } from '#libs/iis/hosts';
import type { IisHost } from '#libs/iis/iis-host';
import type { Certificate } from '#libs/model/certificate';
import type { Deploy, Order } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { issued, validated } from '#libs/model/transitions';
import { startRolloutWorker } from '#libs/queues/rollout-worker';
import { startTargetWorker } from '#libs/queues/target-worker';
import type { RunningWorker } from '#libs/queues/worker';
import { createCertificateReader } from '#libs/service/certificate-reader';
import { createHostAccess } from '#libs/service/host-access';
import { readHistory } from '#libs/store/order-events';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createUndoRecords } from '#libs/store/undo-records';
import { createDeployHandler } from '../../services/deployment-worker/deploy.ts';
import { keepWindows } from '../../services/deployment-worker/maintenance.ts';
import { startLabIisHost } from '../../services/lab/iis-host/lab-iis-host.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { reconcile } from '../../services/scheduler/reconciler.ts';
import { deployable } from './deployable.ts';
import { addSite } from './lab-sites.ts';
import { openPipeline, type Pipeline } from './pipeline.ts';
import { acmeOrder } from './sample-orders.ts';

const name = 'www.example.com';
const ownTime = new AbortController().signal;

/** A rollout over simulated IIS hosts, with the workers of the deployment stage as their process runs them. Every host has site 1 for `www.example.com`. */
export interface Rollouts {
  pipeline: Pipeline;
  /** Adds a host as target `tgt_<word>`. */
  addHost(word: string): Promise<void>;
  faults(target: string, faults: object): Promise<void>;
  /** Thumbprint that the host shows to its clients; null when it has no https binding. */
  served(target: string): Promise<string | null>;
  commits(target: string): Promise<number>;
  certificate(): Promise<Certificate>;
  /** A rollout of a certificate, without a job: to site 1 of each target, or to another one (`tgt_a/9`). */
  place(certificate: string, ...waves: string[][]): Promise<Order>;
  /** As `place`, with its job. */
  enqueue(certificate: string, ...waves: string[][]): Promise<Order>;
  startTargets(): RunningWorker;
  startRollouts(): RunningWorker;
  /** The orders of the targets, as far as there are any. */
  parts(id: string): Promise<Order[]>;
  /** `<target> <status>` of each. */
  deployments(id: string): Promise<string[]>;
  /** What happened, without the times: the type, with the words where it has some. */
  history(id: string): Promise<string[]>;
  /** One look of the reconciler, as it would be in ten seconds. */
  reconcile(): Promise<number>;
  close(): Promise<void>;
}

/** The deployment of a rollout: a target for each word, to its site 1, or to another one (`tgt_a/9`). */
export function inWaves(...waves: string[][]): Deploy {
  const one = (text: string) => {
    const [target = '', site = '1'] = text.split('/');
    return { mode: 'site', target, site: Number(site) } as const;
  };
  return { mode: 'rollout', waves: waves.map((wave) => wave.map(one)) };
}

export function openRollouts(server: Pick<Redis, 'url'>): Rollouts {
  const pipeline = openPipeline(server);
  const { store, producer, redis, resources, settings } = pipeline;
  const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));
  const privateKeys = createPrivateKeys(store.secrets, box);
  const undo = createUndoRecords(redis, store.keys);
  const hosts = new Map<string, { url: string; host: IisHost; close(): Promise<void> }>();
  const workers: RunningWorker[] = [];
  const running = (worker: RunningWorker): RunningWorker => {
    workers.push(worker);
    return worker;
  };
  const hostOf = (target: string) => {
    const found = hosts.get(target);
    if (found === undefined) throw new Error(`there is no host ${target}`);
    return found;
  };
  const deps = {
    ...store,
    findTarget: store.targets.get,
    openHost(target: Target) {
      if (target.kind !== 'iis') throw new Error(`${target.id} is no IIS host`);
      return openIisHost(target, createHostAccess(store, box, target));
    },
    undo,
    openCertificate: createCertificateReader(store, box),
    certificates: store.certificates,
    orders: store.orders,
    expectations: store.expectations,
  };
  const handler = keepWindows(createDeployHandler(deps), deps);

  const rollouts: Rollouts = {
    pipeline,
    async addHost(word) {
      const dir = await mkdtemp(join(tmpdir(), 'certline-rollout-'));
      const lab = await startLabIisHost({ dir });
      const target = {
        ...{ id: `tgt_${word}`, name: word, kind: 'iis', pool: 'default', windows: [], drift: 'report', createdAt: 0 },
        transport: { kind: 'lab', url: lab.url },
      } satisfies Target;
      await store.targets.create(target);
      await addSite(lab.url, 1, [`*:80:${name}`]);
      const close = async () => {
        await lab.close();
        await rm(dir, { recursive: true, force: true });
      };
      hosts.set(target.id, { url: lab.url, host: deps.openHost(target), close });
    },
    async faults(target, faults) {
      await fetch(`${hostOf(target).url}/faults`, { method: 'PUT', body: JSON.stringify(faults) });
    },
    async served(target) {
      const { host } = hostOf(target);
      const { sites } = await host.read(ownTime);
      if (!sites.some(({ bindings }) => bindings.some(({ protocol }) => protocol === 'https'))) return null;
      return (await probeThumbprint(host.endpoint('*', 443), name, 5_000, ownTime)).thumbprint;
    },
    commits: async (target) => {
      const answer = await fetch(`${hostOf(target).url}/log`);
      return ((await answer.json()) as { count: number }).count;
    },
    async certificate() {
      const { id, privateKeyPem, chainPem } = deployable(name);
      const privateKey = `${id}.1`;
      await privateKeys.obtain(privateKey, async () => privateKeyPem);
      const [leaf = '', ...rest] = chainPem.split(/(?<=-----END CERTIFICATE-----\n)/);
      const { serial, thumbprint, issuer, notBefore, notAfter } = describeCertificate(leaf);
      const record = {
        ...{ id, order: 'ord_1', account: 'acc_1', names: [name], keyType: 'ec-p256' as const, leaf, privateKey },
        ...{ serial, thumbprint, issuer, notBefore, notAfter, renewAt: notAfter, createdAt: Date.now() },
      };
      return store.certificates.create(record, rest.join(''));
    },
    place: (certificate, ...waves) =>
      pipeline.place({ names: [name], deploy: inWaves(...waves) }, (order) =>
        issued(validated(order, acmeOrder, Date.now()), certificate, Date.now()),
      ),
    async enqueue(certificate, ...waves) {
      const order = await rollouts.place(certificate, ...waves);
      await producer.enqueue(order);
      return order;
    },
    startTargets: () => running(startTargetWorker(handler, settings, 'default')),
    startRollouts: () => running(startRolloutWorker(settings)),
    async parts(id) {
      const { deployments } = await pipeline.read(id);
      const parts = await Promise.all(
        deployments.map(({ order }) => (order === null ? null : store.orders.get(order))),
      );
      return parts.filter((part) => part !== null);
    },
    deployments: async (id) => (await pipeline.read(id)).deployments.map(({ target, status }) => `${target} ${status}`),
    async history(id) {
      const events = await readHistory(redis, store.keys, id);
      return events.map(({ type, detail }) => (detail === undefined ? type : `${type}: ${detail}`));
    },
    reconcile: () =>
      reconcile({
        ...{ orders: store.orders, leases: store.leases, producer, log: resources.log },
        clock: { ...systemClock, now: () => Date.now() + 10_000 },
      }),
    async close() {
      await Promise.all(workers.map((worker) => worker.stop(0)));
      await pipeline.close();
      await Promise.all([...hosts.values()].map(({ close }) => close()));
    },
  };
  return rollouts;
}
