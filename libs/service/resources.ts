import type { Redis } from 'ioredis';
import { type Clock, systemClock } from '#libs/clock';
import type { Config } from '#libs/config';
import { createLogger, type Logger } from '#libs/logging';
import { createMetrics, type Metrics } from '#libs/metrics/metrics';
import { defaultPool } from '#libs/model/target';
import { createProducer, type Producer } from '#libs/queues/producer';
import { checkDurability, connectRedis, type RedisDurability, type RedisRole } from '#libs/store/redis';
import { createStore, type Store } from '#libs/store/store';

/** What every process has: built once in its `main.ts`, handed to all of its parts. */
export interface Resources {
  clock: Clock;
  log: Logger;
  metrics: Metrics;
  redis: Redis;
  store: Store;
  producer: Producer;
  durability: RedisDurability;
  close(): Promise<void>;
}

/** A Redis URL without its password. */
function placeOf(url: string): string {
  return new URL(url).host;
}

/** Connects and checks. Throws when Redis would lose orders. */
export async function openResources(
  service: string,
  role: RedisRole,
  config: Config<'redis' | 'log'>,
  metrics = createMetrics(service),
): Promise<Resources> {
  if (!config.REDIS_URL)
    throw new Error('REDIS_URL is not set: name the Redis that all services share, or use `npm start`');
  const redisUrl = config.REDIS_URL;
  const log = createLogger(service, config.LOG_LEVEL);
  const onError = (error: Error): void => {
    const why = error.message || ('code' in error ? String(error.code) : error.name);
    log.warn(`Redis at ${placeOf(redisUrl)} does not answer, trying again: ${why}`);
  };
  const redis = connectRedis(redisUrl, role, onError);
  // The API's connection takes no commands before it is ready.
  if (redis.status !== 'ready') await new Promise<void>((resolve) => redis.once('ready', () => resolve()));
  const durability = await checkDurability(redis);
  for (const warning of durability.warnings) log.warn(`Redis is not durable: ${warning}`);
  const store = createStore(redis, config.NAMESPACE);
  const poolOf = async (id: string): Promise<string> => (await store.targets.get(id))?.pool ?? defaultPool;
  const producer = createProducer({ redis, prefix: store.keys.tag, clock: systemClock, poolOf, onError });
  return {
    clock: systemClock,
    log,
    metrics,
    redis,
    store,
    producer,
    durability,
    async close() {
      await producer.close();
      redis.disconnect();
    },
  };
}
