import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { type ApiClient, createApiClient } from '../../services/lab/api-client.ts';
import { type Redis, startRedis } from '../../services/lab/redis.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { diceOf } from '../support/dice.ts';
import { eventually } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { type ChaosAuthority, startAuthority } from './authority.ts';
import type { Edit } from './edits.ts';
import { type Part, startPart } from './part.ts';
import { type Receiver, startReceiver } from './receiver.ts';
import type { Tally } from './tally.ts';
import { startWebServer, type WebServer } from './web-server.ts';
import { type ChaosZone, startZone } from './zone.ts';

/** certline and what it needs around it: every part a process of its own but the CA, whose faults and sums are wanted here. */
export interface World {
  dir: string;
  redis: Redis;
  /** Past the way that is cut. */
  connection: RedisClient;
  redisProxy: TcpProxy;
  authority: ChaosAuthority;
  zone: ChaosZone;
  /** The services of certline. */
  services: Part[];
  hosts: ChaosHost[];
  /** Where certificates go besides the hosts, with the ids of the targets. */
  receiver: Receiver & { target: string };
  folder: { path: string; target: string };
  webServer: WebServer;
  api: ApiClient;
  apiUrl: string;
  masterKey: string;
  /** What must be read nowhere, by what it is. */
  planted: Map<string, string>;
  /** Ids of what orders name. */
  account: string;
  credential: string;
  close(): Promise<void>;
}

export interface ChaosHost {
  part: Part;
  /** Where it is, past the way that is cut. */
  url: string;
  proxy: TcpProxy;
  /** Id of the target. */
  target: string;
}

export interface WorldOptions {
  dir: string;
  seed: number;
  tally: Tally;
  /** Safeguards that the services run without. */
  edits: readonly Edit[];
  /** Names of the sites of each host, by site id from 1. */
  sites: readonly (readonly string[])[];
}

const hostCount = 3;
const readyMs = 60_000;
const file = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** How often a service is there. */
const services = {
  api: 1,
  'validation-worker': 2,
  'issuance-worker': 2,
  'deployment-worker': 2,
  scheduler: 1,
} as const;

export async function startWorld({ dir, seed, tally, edits, sites }: WorldOptions): Promise<World> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const [apiPort, challengePort] = [await freePort(), await freePort()];
  const secret = (): string => randomBytes(24).toString('base64url');
  const password = secret();
  const redis = await startRedis({ dir: join(dir, 'redis'), password });
  const redisProxy = await startTcpProxy();
  redisProxy.leadTo(redis.port);
  const zone = await startZone(join(dir, 'dns'));
  const authority = await startAuthority({ seed, tally, challengePort, nameServer: zone.nameServer });
  const webServer = await startWebServer(join(dir, 'web-roots'), challengePort);
  const webhookSecret = secret();
  const receiver = await startReceiver({ seed, tally, secret: webhookSecret });
  const folder = join(dir, 'folder');
  await mkdir(folder, { mode: 0o700 });

  const apiKey = `certline_${secret()}`;
  const masterKey = randomBytes(32).toString('base64');
  const eab = { kid: 'kid-1', hmacKey: secret() };
  const env = {
    REDIS_URL: `redis://:${password}@127.0.0.1:${redisProxy.port}`,
    MASTER_KEY: `chaos:${masterKey}`,
    BOOTSTRAP_API_KEY: apiKey,
    API_PORT: String(apiPort),
    CHALLENGE_PORT: String(challengePort),
    HTTP01_PORT: String(challengePort),
    METRICS_PORT: '0',
    LOG_LEVEL: 'debug',
    RETRY_DELAY_SCALE: '0.1',
    LOCK_DURATION_MS: '3000',
    STALLED_INTERVAL_MS: '1000',
    RECONCILE_INTERVAL_MS: '500',
    DRIFT_CHECK_MINUTES: '0',
    RATE_LIMIT_PER_MINUTE: '100000',
    WEBROOTS: webServer.dir,
    ALLOW_PRIVATE_WEBHOOKS: 'true',
    ...zone.env,
  };
  const parts: Part[] = [];
  const deaths = diceOf(seed, 'deaths of the API before it enqueues');
  // Whoever waited for the one that died would kill the next at once.
  let hasDied = false;
  const diesOn = (): Record<string, string> => {
    hasDied = !hasDied && deaths.chance(0.6);
    return hasDied ? { CHAOS_DIES_ON: String(Math.ceil(deaths.between(0, 8))) } : {};
  };
  const editing = ['--import', file('./edit-modules.ts')];
  for (const [kind, count] of Object.entries(services)) {
    for (let number = 1; number <= count; number += 1) {
      const name = `${kind}-${number}`;
      const asked = (): Record<string, string> => ({
        CHAOS_EDITS: ['says-who', ...edits, ...(kind === 'api' ? ['api-dies'] : [])].join(),
        CHAOS_PART: name,
        // Many API processes die on one of their first orders, between storing it and enqueueing it.
        ...(kind === 'api' ? diesOn() : {}),
      });
      const options = { name, kind, dir, tally, env: () => ({ ...env, ...asked() }) };
      parts.push(await startPart({ ...options, args: [...editing, file(`../../services/${kind}/main.ts`)] }));
    }
  }
  const hosts: ChaosHost[] = [];
  for (let number = 1; number <= hostCount; number += 1) {
    const name = `web0${number}`;
    const port = await freePort();
    const own = { LAB_DIR: join(dir, name), LAB_CONTROL_PORT: String(port) };
    const args = [file('../../services/lab/iis-host/main.ts')];
    const part = await startPart({ name, kind: 'host', dir, tally, args, env: () => own });
    const proxy = await startTcpProxy();
    proxy.leadTo(port);
    hosts.push({ part, url: `http://127.0.0.1:${port}`, proxy, target: '' });
  }

  const apiUrl = `http://127.0.0.1:${apiPort}`;
  const api = createApiClient(apiUrl, apiKey);
  const answers = (url: string) => async () => (await fetch(url).catch(() => null))?.ok;
  await eventually('the API is ready', readyMs, answers(`${apiUrl}/readyz`));
  for (const [index, host] of hosts.entries()) {
    await eventually(`${host.part.name} is ready`, readyMs, answers(`${host.url}/state`));
    for (const [at, name] of (sites[index] ?? []).entries()) await addSite(host.url, at + 1, [`*:80:${name}`]);
  }
  for (const part of parts)
    await eventually(`${part.name} is ready`, readyMs, async () => /"msg":"[a-z-]+ started"/.test(await part.log()));

  const { directory } = authority.ca;
  const { caBundle } = authority;
  const about = { ca: directory, email: 'ops@example.com', termsOfServiceAgreed: true, allowInternalNames: true };
  const account = await api.send('POST', '/v1/accounts', { ...about, caBundle, eab });
  const credential = await api.send('POST', '/v1/credentials', zone.credential);
  for (const host of hosts) {
    const transport = { kind: 'lab', url: `http://127.0.0.1:${host.proxy.port}` };
    host.target = String((await api.send('POST', '/v1/targets', { name: host.part.name, kind: 'iis', transport })).id);
  }
  const targetOf = async (body: Record<string, unknown>): Promise<string> =>
    String((await api.send('POST', '/v1/targets', body)).id);
  const signing = { name: 'receiver', kind: 'secret', secret: webhookSecret };
  const signer = (await api.send('POST', '/v1/credentials', signing)).id;
  const webhook = await targetOf({ name: 'receiver', kind: 'webhook', url: receiver.url, credential: signer });
  const files = await targetOf({ name: 'folder', kind: 'folder', path: folder });
  const connection = connectRedis(redis.url, 'worker', () => {});
  return {
    ...{
      dir,
      redis,
      connection,
      redisProxy,
      authority,
      zone,
      services: parts,
      hosts,
      api,
      apiUrl,
      masterKey,
      webServer,
    },
    receiver: { ...receiver, target: webhook },
    folder: { path: folder, target: files },
    planted: new Map([
      ['the API key', apiKey],
      ['the password of Redis', password],
      ['the master key', masterKey],
      ['the EAB key', eab.hmacKey],
      ['the TSIG key', zone.tsigKey],
      ['the secret of the webhook', webhookSecret],
      ['the password of a PFX', secret()],
    ]),
    account: String(account.id),
    credential: String(credential.id),
    async close() {
      await Promise.all([...parts, ...hosts.map(({ part }) => part)].map((part) => part.close()));
      connection.disconnect();
      await Promise.all([redisProxy, ...hosts.map(({ proxy }) => proxy)].map((proxy) => proxy.close()));
      await Promise.all([authority.close(), zone.close(), redis.close(), webServer.close(), receiver.close()]);
    },
  };
}
