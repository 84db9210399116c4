import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readConfig } from '#libs/config';
import { openResources } from '#libs/service/resources';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createStore, type Store } from '#libs/store/store';
import { type ApiService, startApi } from '../../services/api/service.ts';
import { type ApiAnswer, type ApiClient, createApiClient } from '../../services/lab/api-client.ts';
import type { LabOptions } from '../../services/lab/lab.ts';
import { sections, startStandalone } from '../../services/standalone/service.ts';
import { type LabSession, openLabSession } from './lab-session.ts';

type Json = Record<string, unknown>;
type Env = Record<string, string>;

export interface ApiSessionOptions {
  /** Whether the workers and the scheduler run beside the API. Without them nothing but the API changes Redis. */
  workers: boolean;
  env?: Env;
  pebble?: LabOptions['pebble'];
}

/** certline in this process, over a Redis and a Pebble of its own. */
export interface ApiSession extends LabSession {
  url: string;
  challengeUrl: string;
  redis: RedisClient;
  store: Store;
  /** A client with a new key of these scopes. */
  clientWith(...scopes: string[]): Promise<ApiClient>;
  /** Another API on the same Redis, with other settings; an empty one is unset. */
  startApi(env: Env): Promise<ApiService>;
  /** Registers an account at the lab's CA. */
  account(more?: Json): Promise<string>;
  /** How many requests the CA got, as it says itself. */
  caRequests(): Promise<number>;
  metrics(): Promise<string>;
}

export async function openApiSession({ workers, env = {}, pebble = {} }: ApiSessionOptions): Promise<ApiSession> {
  const session = await openLabSession({ env: { LOG_LEVEL: 'silent', ...env }, pebble });
  const { lab, api } = session;
  const stops: (() => Promise<void>)[] = [];
  const config = (more: Env) => readConfig(sections, { ...lab.env, ...more });

  async function startApiAlone(more: Env): Promise<ApiService> {
    const settings = config(more);
    const resources = await openResources('api', 'api', settings);
    const service = await startApi(resources, settings);
    stops.push(async () => {
      await service.stop();
      await resources.close();
    });
    return service;
  }
  async function startAll(): Promise<ApiService> {
    const all = await startStandalone(config({}));
    stops.push(all.stop);
    return all.api;
  }

  const service = await (workers ? startAll() : startApiAlone({}));
  const redis = connectRedis(config({}).REDIS_URL ?? '', 'worker', () => {});
  return {
    ...session,
    url: service.url,
    challengeUrl: `http://127.0.0.1:${service.challengePort}`,
    redis,
    store: createStore(redis, 'certline'),
    async clientWith(...scopes) {
      const { key } = await api.send('POST', '/v1/api-keys', { name: scopes.join(' '), scopes });
      return createApiClient(service.url, String(key));
    },
    startApi: (more) => startApiAlone({ API_PORT: '0', CHALLENGE_PORT: '0', ...more }),
    async account(more = {}) {
      const { directory, caBundle } = lab.pebble;
      const body = { ca: directory, email: 'ops@example.com', termsOfServiceAgreed: true, caBundle, ...more };
      return String((await api.send('POST', '/v1/accounts', body)).id);
    },
    async caRequests() {
      const log = await readFile(join(lab.dir, 'pebble', 'pebble.log'), 'utf8');
      return log.match(/ (GET|HEAD|POST) \//g)?.length ?? 0;
    },
    metrics: async () => (await fetch(`${service.url}/metrics`)).text(),
    async close() {
      for (const stop of stops.reverse()) await stop();
      redis.disconnect();
      await session.close();
    },
  };
}

const readers: Record<string, (key: string) => [string, ...string[]]> = {
  string: (key) => ['GET', key],
  hash: (key) => ['HGETALL', key],
  list: (key) => ['LRANGE', key, '0', '-1'],
  set: (key) => ['SMEMBERS', key],
  zset: (key) => ['ZRANGE', key, '0', '-1', 'WITHSCORES'],
  stream: (key) => ['XRANGE', key, '-', '+'],
};

/** Groups of `size` in alphabetical order. */
function sorted(items: string[], size: number): string[] {
  const groups = Array.from({ length: items.length / size }, (_, i) => items.slice(size * i, size * (i + 1)));
  return groups.sort(([a = ''], [b = '']) => (a < b ? -1 : 1)).flat();
}

/** All that Redis holds: key to content. */
export async function dumpRedis(redis: RedisClient): Promise<Map<string, string>> {
  const dump = new Map<string, string>();
  // What workers say of themselves comes and goes: leases, that they are there, when they looked for stalled jobs; and what a queue of
  // questions counts.
  const passing = /:(lease|served):|:stalled-check$|-requests:(events|id|meta)$|:master-keys:holders$/;
  for (const key of (await redis.keys('*')).filter((one) => !passing.test(one)).sort()) {
    const type = await redis.type(key);
    if (type === 'none') continue;
    const command = readers[type];
    if (!command) throw new Error(`${key} is a ${type}: say how it is read`);
    const [name, ...args] = command(key);
    const content = await redis.call(name, ...args);
    // Sets and hashes have no order of their own.
    const unordered = type === 'set' || type === 'hash';
    dump.set(key, JSON.stringify(unordered ? sorted(content as string[], type === 'hash' ? 2 : 1) : content));
  }
  return dump;
}

/** The fields that a problem says are wrong, with what is wrong: `path code`. */
export function fieldsOf({ body }: ApiAnswer<Json>): string[] {
  return ((body.errors ?? []) as { path: string; code: string }[]).map(({ path, code }) => `${path} ${code}`);
}

/** A time as the API writes it. */
export const anyTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
