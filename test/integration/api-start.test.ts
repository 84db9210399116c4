import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '#libs/config';
import { openResources, type Resources } from '#libs/service/resources';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import type { Store } from '#libs/store/store';
import { sections, startApi } from '../../services/api/service.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** An API that starts while Redis takes no writes: it has to note its first key there, and which master key it has. */
describe('an API that starts', () => {
  let server: Redis;
  let redis: RedisClient;
  let tries: number;
  let triedAgain: PromiseWithResolvers<string>;

  beforeAll(async () => {
    server = await startTestRedis();
    redis = connectRedis(server.url, 'worker', () => {});
  });
  afterAll(async () => {
    redis.disconnect();
    await server.close();
  });

  function told<A extends unknown[], R>(work: (...args: A) => Promise<R>): (...args: A) => Promise<R> {
    return async (...args) => {
      tries += 1;
      if (tries === 2) triedAgain.resolve('tried again');
      return work(...args);
    };
  }
  const withKeys = ({ apiKeys, ...store }: Store): Store => ({
    ...store,
    apiKeys: { ...apiKeys, create: told(apiKeys.create) },
  });
  const withMasterKeys = ({ masterKeys, ...store }: Store): Store => ({
    ...store,
    masterKeys: { ...masterKeys, announce: told(masterKeys.announce) },
  });

  it.each([
    ['which master key it has', withMasterKeys, { MASTER_KEY: `one:${randomBytes(32).toString('base64')}` }],
    ['its first key', withKeys, { BOOTSTRAP_API_KEY: 'certline_the-first-key-of-all' }],
  ])('waits until Redis has room for %s', async (_what, watched, own) => {
    tries = 0;
    triedAgain = Promise.withResolvers();
    const env = { API_PORT: '0', CHALLENGE_PORT: '0', REDIS_URL: server.url, LOG_LEVEL: 'silent', ...own };
    const config = readConfig([...sections, 'log'], env);
    const resources: Resources = await openResources('api', 'api', config);
    await redis.config('SET', 'maxmemory', '1');
    const starting = startApi({ ...resources, store: watched(resources.store) }, config);
    const gaveUp = starting.then(() => 'started', String);
    expect(await Promise.race([gaveUp, triedAgain.promise])).toBe('tried again');
    await redis.config('SET', 'maxmemory', '0');
    const api = await starting;
    expect((await fetch(`${api.url}/readyz`)).status).toBe(200);
    await api.stop();
    await resources.close();
  });
});
