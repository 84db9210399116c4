import { type Clock, systemClock } from '#libs/clock';
import type { Config } from '#libs/config';
import { CertlineError } from '#libs/errors';
import { createLogger, type Logger } from '#libs/logging';
import { createMetrics, type Metrics } from '#libs/metrics/metrics';
import { defaultPool } from '#libs/model/target';
import { createProducer, type Producer } from '#libs/queues/producer';
import { firstContact } from '#libs/store/first-contact';
import { createKeys } from '#libs/store/keys';
import { connectRedis, type RedisClient, type RedisRole, redisUrls } from '#libs/store/redis';
import { checkDurability, type RedisDurability } from '#libs/store/redis-durability';
import { createStore, type Store } from '#libs/store/store';
import { refuseWhileRestoring } from './refuse-while-restoring.ts';
import { type StoreOutages, watchStore } from './store-outages.ts';

/** What every process has: built once in its `main.ts`, handed to all of its parts. */
export interface Resources {
  clock: Clock;
  log: Logger;
  metrics: Metrics;
  redis: RedisClient;
  store: Store;
  producer: Producer;
  durability: RedisDurability;
  outages: StoreOutages;
  /** Another connection to the same Redis, for what must not wait behind other commands; the caller's to end. */
  connect(role: RedisRole): RedisClient;
  /** Throws what keeps Redis from doing its work, after some seconds if need be. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

/** The addresses in `REDIS_URL`, without its password. */
function placeOf(text: string): string {
  return redisUrls(text)
    .map((url) => new URL(url).host)
    .join(', ');
}

/** How long Redis may take to show that it takes writes, ms: a worker's connection waits for ever. */
const readyMs = 2_000;

/** Connects and checks; waits for a Redis that is away. Throws when Redis would lose orders, or does not let certline do its work. */
export async function openResources(
  service: string,
  role: RedisRole,
  config: Config<'redis' | 'log'>,
  metrics = createMetrics(service),
): Promise<Resources> {
  const { REDIS_URL: redisUrl, NAMESPACE: namespace } = config;
  if (!redisUrl) throw new Error('REDIS_URL is not set: name the Redis that all services share, or use `npm start`');
  const clock = systemClock;
  const log = createLogger(service, config.LOG_LEVEL);
  const tls = { ca: config.REDIS_CA, certificate: config.REDIS_CERTIFICATE, key: config.REDIS_KEY };
  const { tag } = createKeys(namespace);
  let works = (): Promise<void> => reached;
  const outages = watchStore({ clock, log, place: placeOf(redisUrl), works: () => works() });
  const onError = (error: Error): void => {
    if (!outages.met(error)) log.warn({ err: error }, 'Redis connection');
  };
  const reached = firstContact(redisUrl, { tls, tag, clock, onError });
  const connect = (as: RedisRole): RedisClient => connectRedis(redisUrl, as, onError, tls);

  async function open(): Promise<Resources> {
    await reached;
    const redis = connect(role);
    // The API's connection takes no commands before it is ready.
    if (redis.status !== 'ready') await new Promise<void>((resolve) => redis.once('ready', () => resolve()));
    const durability = await checkDurability(redis);
    metrics.redisDurable.set(durability.durable ? 1 : 0);
    for (const warning of durability.warnings) log.warn(`Redis is not durable: ${warning}`);
    const store = createStore(redis, namespace);
    await refuseWhileRestoring(store);
    works = store.ping;
    const poolOf = async (id: string): Promise<string> => (await store.targets.get(id))?.pool ?? defaultPool;
    const producer = createProducer({ redis, prefix: store.keys.tag, clock, poolOf, onError });
    return {
      ...{ clock, log, metrics, redis, store, producer, durability, outages, connect },
      async ready() {
        const late = clock.sleep(readyMs).then(() => {
          throw outages.current() ?? new CertlineError('store_unavailable', 'Redis does not answer');
        });
        await Promise.race([store.ping(), late]);
      },
      async close() {
        outages.close();
        await producer.close();
        redis.disconnect();
      },
    };
  }

  return open().catch((error: unknown) => {
    outages.close();
    throw error;
  });
}
