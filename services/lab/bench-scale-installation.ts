import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '#libs/clock';
import { readConfig } from '#libs/config';
import { openResources, type Resources } from '#libs/service/resources';
import { workerSettings } from '#libs/service/worker-settings';
import { dataBytes, keyBytes } from './bench-scale-memory.ts';
import { createEstate, type Estate, type EstateOptions } from './estate.ts';
import { type Redis, startRedis } from './redis.ts';
import { freePort, type RunningProgram, startProgram, untilReady, withFreePorts } from './running-program.ts';

export const serviceNames = ['api', 'validation-worker', 'issuance-worker', 'deployment-worker', 'scheduler'] as const;
type ServiceName = (typeof serviceNames)[number];

/** A service of its own process. */
export interface RunningService {
  /** From the start of the process until it says that it has started. */
  readonly startedMs: number;
  /** Where its API, or its metrics, are. */
  readonly url: string;
  stop(): Promise<void>;
}

/** An estate of one size, in a Redis of its own. */
export interface Installation {
  readonly resources: Resources;
  readonly estate: Estate;
  readonly apiKey: string;
  /** Bytes of Redis for each certificate with its order, and for each order besides; without the stream of events, which has an end. */
  readonly bytes: { readonly certificate: number; readonly order: number };
  startService(name: ServiceName): Promise<RunningService>;
  /** Milliseconds until Redis has read its data back. */
  restartRedis(): Promise<number>;
  close(): Promise<void>;
}

const servicesDir = fileURLToPath(new URL('..', import.meta.url));
const readyMs = 60_000;
/** Redis makes its tables larger bit by bit, and has both for as long. */
const restMs = 2_000;
const rewriteLookMs = 200;

/** What each of those that `grow` adds to an index takes. */
async function bytesOfEach({ redis, store }: Resources, index: string, grow: () => Promise<void>): Promise<number> {
  const read = async (): Promise<{ bytes: number; count: number }> => {
    await systemClock.sleep(restMs);
    const bytes = (await dataBytes(redis)) - (await keyBytes(redis, store.keys.events));
    return { bytes, count: await redis.zcard(index) };
  };
  const before = await read();
  await grow();
  const after = await read();
  return (after.bytes - before.bytes) / (after.count - before.count);
}

/** Makes Redis as durable as it is to be; not before it has its data, since what seeding writes is many times what is kept. */
async function keepOnDisk({ redis }: Resources): Promise<void> {
  await redis.config('SET', 'appendonly', 'yes');
  while (/^aof_rewrite_(in_progress|scheduled):1/m.test(await redis.info('persistence')))
    await systemClock.sleep(rewriteLookMs);
}

async function startService(
  name: ServiceName,
  dir: string,
  env: Readonly<Record<string, string>>,
): Promise<RunningService> {
  const logFile = join(dir, `${name}-${randomBytes(4).toString('hex')}.log`);
  const start = async (): Promise<{ running: RunningProgram; startedMs: number; port: string }> => {
    const port = String(await freePort());
    const begun = performance.now();
    const running = await startProgram(
      { kind: 'file', path: process.execPath },
      { args: [join(servicesDir, name, 'main.ts')], dir, logFile, env: { ...env, API_PORT: port, METRICS_PORT: port } },
    );
    const started = async (): Promise<boolean> => /"msg":"[a-z-]+ started"/.test(await readFile(logFile, 'utf8'));
    await untilReady(running, name, logFile, readyMs, started);
    return { running, startedMs: performance.now() - begun, port };
  };
  const { running, startedMs, port } = await withFreePorts(start);
  return { startedMs, url: `http://127.0.0.1:${port}`, stop: () => running.stop('SIGTERM', 12_000) };
}

async function seed(resources: Resources, estate: Estate, size: number): Promise<Installation['bytes']> {
  const { certificates, orders } = resources.store.keys;
  await resources.redis.config('SET', 'appendonly', 'no');
  // What there is once, and what Node and Redis need for their first steps, belongs to no certificate.
  await estate.growCertificates(1);
  const bytes = {
    certificate: await bytesOfEach(resources, certificates, () => estate.growCertificates(size)),
    order: await bytesOfEach(resources, orders, () => estate.growOrders(2 * size)),
  };
  await keepOnDisk(resources);
  return bytes;
}

/** Starts a Redis and seeds it with certificates and twice as many orders. */
export async function openInstallation(
  dir: string,
  size: number,
  onProgress: NonNullable<EstateOptions['onProgress']>,
): Promise<Installation> {
  await mkdir(dir, { recursive: true });
  const server: Redis = await startRedis({
    dir: join(dir, 'redis'),
    password: randomBytes(24).toString('base64url'),
  });
  const apiKey = `certline_${randomBytes(32).toString('base64url')}`;
  const env = {
    ...{ REDIS_URL: server.url, MASTER_KEY: `bench:${randomBytes(32).toString('base64')}`, BOOTSTRAP_API_KEY: apiKey },
    ...{ CHALLENGE_PORT: '0', RATE_LIMIT_PER_MINUTE: '1000000' },
  };
  try {
    const config = readConfig(['redis', 'log', 'pipeline'], { ...env, LOG_LEVEL: 'silent' });
    const resources = await openResources('bench', 'worker', config);
    const settings = workerSettings(resources, config);
    const estate = await createEstate({ store: resources.store, settings, onProgress });
    const bytes = await seed(resources, estate, size);
    return {
      ...{ resources, estate, apiKey, bytes },
      startService: (name) => startService(name, dir, env),
      async restartRedis() {
        const begun = performance.now();
        await server.restart();
        return performance.now() - begun;
      },
      async close() {
        await resources.close();
        await server.close();
      },
    };
  } catch (error) {
    await server.close();
    throw error;
  }
}
