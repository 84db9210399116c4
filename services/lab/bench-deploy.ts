import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '#libs/clock';
import { describeCertificate } from '#libs/crypto/x509';
import type { Certificate } from '#libs/model/certificate';
import { newId } from '#libs/model/ids';
import { defaultPool, type Target } from '#libs/model/target';
import { newDeployment } from '#libs/model/transitions';
import { createProducer, type Producer } from '#libs/queues/producer';
import { createPrivateKeys } from '#libs/store/private-keys';
import { connectRedis } from '#libs/store/redis';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import { createStore, type Store } from '#libs/store/store';
import { namesOf } from './bench-load.ts';
import { createRootCa } from './certificate-authority.ts';
import { startLabIisHost } from './iis-host/lab-iis-host.ts';
import { startRedis } from './redis.ts';
import { freePort, startProgram, untilReady } from './running-program.ts';

/** What a round of deployments took. */
export interface DeployMeasurement {
  readonly scenario: string;
  readonly hosts: number;
  readonly certificates: number;
  readonly seconds: number;
  /** Commits that the hosts count, over all of them. */
  readonly commits: number;
  /** The most of one host. */
  readonly mostCommits: number;
  /** Bindings that have their certificate in the end, by what the hosts say. */
  readonly right: number;
}

interface Round {
  readonly scenario: string;
  readonly hosts: number;
  readonly certificates: readonly Certificate[];
  /** Each certificate is ordered when the one before is deployed: a commit for each. */
  readonly oneByOne: boolean;
}

interface Bench {
  readonly dir: string;
  readonly store: Store;
  readonly producer: Producer;
  readonly pauseMs: number;
}

const namespace = 'certline';
const worker = fileURLToPath(new URL('../deployment-worker/main.ts', import.meta.url));
const patienceMs = 600_000;
const lookEveryMs = 2;

async function until(what: string, done: () => Promise<boolean>): Promise<void> {
  const deadline = systemClock.now() + patienceMs;
  while (!(await done())) {
    if (systemClock.now() > deadline) throw new Error(`not in ${patienceMs / 1_000} s: ${what}`);
    await systemClock.sleep(lookEveryMs);
  }
}

async function ask<T>(url: string, body?: object): Promise<T> {
  const answer = await fetch(url, body ? { method: 'POST', body: JSON.stringify(body) } : {});
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}: ${await answer.text()}`);
  return (await answer.json()) as T;
}

/** What lies between a worker and a host: every call takes this much longer, ms, as a real host first starts a PowerShell for each. */
async function startPause(url: string, pauseMs: number): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    const pass = async (): Promise<void> => {
      const parts: Buffer[] = [];
      for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
      await systemClock.sleep(pauseMs);
      const body = parts.length > 0 ? { body: Buffer.concat(parts) } : {};
      const answer = await fetch(`${url}${request.url}`, { method: request.method ?? 'GET', ...body });
      response.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text());
    };
    pass().catch(() => response.destroy());
  });
  const port = await freePort();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${port}`, close: () => server.close().closeAllConnections() };
}

/** A simulated host with one site that has an https binding for each certificate, as the target of deployments. */
async function startTarget({ dir, store, pauseMs }: Bench, name: string, certificates: readonly Certificate[]) {
  const host = await startLabIisHost({ dir: join(dir, name) });
  const bindings = certificates.map(({ names }) => ({
    ...{ protocol: 'https', bindingInformation: `*:443:${names[0]}`, sslFlags: 1 },
  }));
  await ask(`${host.url}/sites`, { id: 1, name: 'bench', bindings });
  const pause = pauseMs > 0 ? await startPause(host.url, pauseMs) : null;
  const close = async (): Promise<void> => {
    pause?.close();
    await host.close();
  };
  const now = systemClock.now();
  const target: Target = {
    ...{ id: newId('target', now), name, kind: 'iis', transport: { kind: 'lab', url: pause?.url ?? host.url } },
    ...{ pool: defaultPool, windows: [], drift: 'report' as const, createdAt: now },
  };
  await store.targets.create(target);
  return { target, host, certificates, close };
}

/** Puts the order of a deployment in the store, as issuance leaves it; nobody is told of it yet. */
async function placeOrder({ store }: Bench, target: string, certificate: Certificate): Promise<string> {
  const { names, keyType, account, id: certificateId } = certificate;
  const request = {
    ...{ names, account, keyType, challenges: [], challenge: { type: 'http-01', via: 'responder' } as const },
    ...{ profile: null, preferredChain: null, source: null, deploy: { mode: 'site', target, site: 1 } as const },
  };
  const now = systemClock.now();
  return (await store.orders.place(newDeployment(newId('order', now), request, certificateId, now))).order.id;
}

async function measure(bench: Bench, { scenario, hosts, certificates, oneByOne }: Round): Promise<DeployMeasurement> {
  const { store, producer } = bench;
  const each = Math.ceil(certificates.length / hosts);
  const targets = await Promise.all(
    Array.from({ length: hosts }, (_, at) =>
      startTarget(bench, `${scenario}-${at + 1}`, certificates.slice(at * each, (at + 1) * each)),
    ),
  );
  const pairs = targets.flatMap(({ target, certificates: own }) => own.map((certificate) => ({ target, certificate })));
  try {
    const before = await store.orders.count('deployed');
    if (!oneByOne) for (const { target, certificate } of pairs) await placeOrder(bench, target.id, certificate);
    const start = performance.now();
    if (oneByOne) {
      for (const { target, certificate } of pairs) {
        const id = await placeOrder(bench, target.id, certificate);
        await producer.wakeTarget(target.id);
        await until(`the deployment of ${certificate.names[0]}`, async () => {
          return (await store.orders.get(id))?.status === 'deployed';
        });
      }
    } else {
      await Promise.all(targets.map(({ target }) => producer.wakeTarget(target.id)));
      await until(scenario, async () => (await store.orders.count('deployed')) === before + pairs.length);
    }
    const seconds = (performance.now() - start) / 1_000;
    const wanted = new Map(certificates.map(({ names, thumbprint }) => [`*:443:${names[0]}`, thumbprint]));
    let [commits, mostCommits, right] = [0, 0, 0];
    for (const { host } of targets) {
      const { count } = await ask<{ count: number }>(`${host.url}/log`);
      const { sites } = await ask<{ sites: { bindings: { bindingInformation: string; thumbprint: string }[] }[] }>(
        `${host.url}/state`,
      );
      commits += count;
      mostCommits = Math.max(mostCommits, count);
      const bindings = sites.flatMap((site) => site.bindings);
      right += bindings.filter((one) => wanted.get(one.bindingInformation) === one.thumbprint).length;
    }
    return { scenario, hosts, certificates: certificates.length, seconds, commits, mostCommits, right };
  } finally {
    await Promise.all(targets.map(({ close }) => close()));
  }
}

/** Certificates of a CA made for it, in the store with their keys, as issuance leaves them. */
async function issueAll(
  store: Store,
  box: ReturnType<typeof createSecretBox>,
  names: readonly string[],
): Promise<Certificate[]> {
  const ca = createRootCa('certline bench');
  const keys = createPrivateKeys(store.secrets, box);
  const certificates: Certificate[] = [];
  for (const [at, name] of names.entries()) {
    const { certificatePem: leaf, privateKeyPem } = ca.issueWithKey({ names: [name] });
    const privateKey = `bench.${at + 1}`;
    await keys.obtain(privateKey, async () => privateKeyPem);
    const { serial, thumbprint, issuer, notBefore, notAfter } = describeCertificate(leaf);
    const record = {
      ...{ id: `crt_bench${at + 1}`, order: 'ord_bench', account: 'acc_bench', names: [name] },
      ...{ keyType: 'ec-p256' as const, serial, thumbprint, issuer, notBefore, notAfter, leaf, privateKey },
      ...{ renewAt: notAfter, createdAt: systemClock.now() },
    };
    certificates.push(await store.certificates.create(record, ca.certificatePem));
  }
  return certificates;
}

export interface DeployBenchSettings {
  readonly dir: string;
  readonly certificates: number;
  /** Of the round with many hosts. */
  readonly hosts: number;
  /** What every call to a host takes besides what the simulated host needs, ms. */
  readonly pauseMs: number;
  /** Where Node writes a CPU profile of the worker; null for none. */
  readonly profileDir: string | null;
}

/**
 * Deployments by a real worker process on a real Redis to simulated hosts: all certificates on one host at once and one by one, and
 * spread over many hosts. The hosts run in this process; by themselves they do not pause, as a real IIS does for a second with every call.
 */
export async function measureDeployments(
  { dir, certificates: count, hosts, pauseMs, profileDir }: DeployBenchSettings,
  say: (line: string) => void,
): Promise<DeployMeasurement[]> {
  await mkdir(dir, { recursive: true });
  const server = await startRedis({ dir: join(dir, 'redis'), password: randomBytes(24).toString('base64url') });
  const masterKey = `bench:${randomBytes(32).toString('base64')}`;
  const redis = connectRedis(server.url, 'worker', () => {});
  const store = createStore(redis, namespace);
  const poolOf = async (): Promise<string> => defaultPool;
  const producer = createProducer({ redis, prefix: store.keys.tag, clock: systemClock, poolOf, onError: () => {} });
  const bench: Bench = { dir, store, producer, pauseMs };
  const logFile = join(dir, 'deployment-worker.log');
  const env = { REDIS_URL: server.url, MASTER_KEY: masterKey, METRICS_PORT: '0', LOG_LEVEL: 'info' };
  const profiling = profileDir === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDir}`];
  const program = { kind: 'file', path: process.execPath } as const;
  const running = await startProgram(program, { args: [...profiling, worker], dir, logFile, env });
  try {
    const ready = async (): Promise<boolean> => (await readFile(logFile, 'utf8')).includes('deployment-worker started');
    await untilReady(running, 'the deployment worker', logFile, 30_000, ready);
    const certificates = await issueAll(store, createSecretBox(parseMasterKeys(masterKey)), namesOf('deploy', count));
    const few = certificates.slice(0, 20);
    for (const oneByOne of [false, true])
      await measure(bench, { scenario: `warm-up-${oneByOne}`, hosts: 1, certificates: few, oneByOne });
    const rounds: Round[] = [
      { scenario: 'one host', hosts: 1, certificates, oneByOne: false },
      { scenario: 'one host, one by one', hosts: 1, certificates, oneByOne: true },
      { scenario: 'many hosts', hosts, certificates, oneByOne: false },
    ];
    const measured: DeployMeasurement[] = [];
    for (const round of rounds) {
      const result = await measure(bench, round);
      say(`  ${result.scenario}: ${result.seconds.toFixed(2)} s, ${result.commits} commits`);
      measured.push(result);
    }
    return measured;
  } finally {
    await running.stop('SIGTERM', 12_000);
    await producer.close();
    redis.disconnect();
    await server.close();
  }
}

/** The table of what was measured, and what is to be reached: a commit for each host, and the time that saves. */
export function deployReport(measured: readonly DeployMeasurement[]): string[] {
  const lines = measured.map(
    ({ scenario, hosts, certificates, seconds, commits }) =>
      `${scenario.padEnd(22)} ${String(certificates).padStart(5)} certificates ${String(hosts).padStart(4)} hosts ${String(commits).padStart(5)} commits ${seconds.toFixed(2).padStart(8)} s`,
  );
  const single = measured.find(({ scenario }) => scenario === 'one host, one by one');
  for (const { scenario, seconds, mostCommits } of measured.filter((one) => one !== single)) {
    lines.push(
      `${mostCommits === 1 ? 'reached' : 'missed '}  ${scenario}: commits of a host ${mostCommits} (target 1)`,
    );
    if (!single) continue;
    const ratio = single.seconds / seconds;
    lines.push(
      `${ratio >= 5 ? 'reached' : 'missed '}  ${scenario}: times as fast as one by one ${ratio.toFixed(1)} (target >= 5)`,
    );
  }
  return lines;
}
