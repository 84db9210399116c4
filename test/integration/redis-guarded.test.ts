import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfig } from '#libs/config';
import { openResources } from '#libs/service/resources';
import { connectRedis } from '#libs/store/redis';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { type GuardedRedis, readmeUser, startGuardedRedis } from '../support/guarded-redis.ts';
import { type WholeOrders, wholeOrders } from '../support/whole-orders.ts';

let redis: GuardedRedis;

beforeAll(async () => {
  const more = ['stranger', 'poor'].map((name) => readmeUser('secret').replace('user certline', `user ${name}`));
  redis = await startGuardedRedis([
    (more[0] ?? '').replace('~{certline}:*', '~{other}:*'),
    `${more[1]} -xadd -evalsha`,
  ]);
});
afterAll(() => redis.close());

/** What a process says that is started with these settings. */
async function refusal(env: Record<string, string>): Promise<{ code: string; message: string }> {
  const config = readConfig(['redis', 'log'], { LOG_LEVEL: 'silent', ...env });
  return openResources('api', 'api', config).then(
    async (resources) => {
      await resources.close();
      throw new Error('it started');
    },
    (error: { code: string; message: string }) => error,
  );
}

describe('a Redis with TLS and a user of its own for certline', () => {
  let session: ApiSession;
  let orders: WholeOrders;
  afterAll(async () => {
    await orders?.close();
    await session?.close();
  });

  it('takes a whole order, with the rights that the README names', async () => {
    session = await openApiSession({ workers: true, env: { REDIS_URL: redis.url, REDIS_CA: redis.ca } });
    orders = await wholeOrders(session);
    const id = await orders.place('guarded.example.com');
    expect(await orders.deployed(id)).toEqual({ validation: 0, issuance: 0, deployment: 0 });
    expect(await orders.isServed('guarded.example.com')).toBe(true);
    const ready = await (await fetch(`${session.url}/readyz`)).json();
    expect(ready).toMatchObject({
      redis: { appendonly: 'yes', appendfsync: 'everysec', maxmemoryPolicy: 'noeviction' },
    });
  });

  it('has denied nothing that certline asked for', async () => {
    const admin = connectRedis(`redis://:of-default@127.0.0.1:${redis.plainPort}`, 'worker', () => {});
    try {
      expect(await admin.call('ACL', 'LOG')).toEqual([]);
    } finally {
      admin.disconnect();
    }
  });
});

describe('a process that Redis does not let in ends at its start and says why:', () => {
  const plain = (login: string): string => `redis://${login}@127.0.0.1:${redis.plainPort}`;
  const cases: [what: string, env: () => Record<string, string>, words: RegExp][] = [
    ['a wrong password', () => ({ REDIS_URL: plain('certline:wrong') }), /WRONGPASS/],
    ['no password', () => ({ REDIS_URL: plain('').replace('@', '') }), /NOAUTH/],
    ['a CA that is not trusted', () => ({ REDIS_URL: redis.url }), /not trusted.*REDIS_CA_FILE/],
    [
      'another CA',
      () => ({ REDIS_URL: redis.url, REDIS_CA: createRootCa('Another').certificatePem }),
      /not trusted.*REDIS_CA_FILE/,
    ],
    [
      'a certificate for another name',
      () => ({ REDIS_URL: redis.url.replace('localhost', '127.0.0.1'), REDIS_CA: redis.ca }),
      /not for the name in REDIS_URL/,
    ],
    [
      'TLS at a port without',
      () => ({ REDIS_URL: plain('certline:x').replace('redis:', 'rediss:') }),
      /speaks no TLS.*redis:\/\//,
    ],
    [
      'no TLS at a port with it',
      () => ({ REDIS_URL: plain('certline:x').replace(String(redis.plainPort), String(redis.port)) }),
      /speaks TLS.*rediss:\/\//,
    ],
    ['rights that are missing', () => ({ REDIS_URL: plain('poor:secret') }), /may not give EVALSHA, XADD on keys/],
    ['rights on other keys', () => ({ REDIS_URL: plain('stranger:secret') }), /may not give .*GET.*\{certline\}:/],
    [
      'two that are no Cluster',
      () => ({ REDIS_URL: `${redis.url},${redis.url}`, REDIS_CA: redis.ca }),
      /no Redis Cluster/,
    ],
  ];
  it.each(cases)('%s', async (_what, env, words) => {
    const { code, message } = await refusal(env());
    expect(code).toBe('store_refused');
    expect(message).toMatch(words);
    expect(message).not.toMatch(/of-certline|secret/);
  });
});
