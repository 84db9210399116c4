import { createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { describeCertificate } from '#libs/crypto/x509';
import { scopes } from '#libs/model/api-key';
import { parseMasterKeys } from '#libs/store/master-keys';
import { createPrivateKeys } from '#libs/store/private-keys';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { createSecretBox } from '#libs/store/secret-box';
import { createStore } from '#libs/store/store';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { openLabSession } from '../support/lab-session.ts';
import type { OpenApi } from './requests.ts';

/** An API process over a Redis and a CA of its own, with something of everything in it. */
export interface FuzzWorld {
  url: string;
  document: OpenApi;
  redis: RedisClient;
  /** API keys by scope. */
  keys: Record<string, string>;
  /** What `@account:0` and the like stand for. */
  known: Record<string, string[]>;
  /** Lines of the API's log that tell of an error. */
  errors(): Promise<string[]>;
  isAlive(): Promise<boolean>;
  close(): Promise<void>;
}

export async function startFuzzWorld(): Promise<FuzzWorld> {
  const session = await openLabSession({
    env: { RATE_LIMIT_PER_MINUTE: '1000000000', MAX_OPEN_ORDERS_PER_KEY: '200' },
  });
  const { lab, api } = session;
  await lab.startService('api');
  const redis = connectRedis(lab.redis.url, 'worker', () => {});
  const store = createStore(redis, 'certline');
  const make = async (path: string, body: unknown): Promise<string> => String((await api.send('POST', path, body)).id);

  const account = await session.registerAccount();
  const transport = { kind: 'lab', url: 'http://127.0.0.1:1/' };
  const dns = { kind: 'dns', provider: 'webhook', settings: { url: 'http://127.0.0.1:1/' } };
  const credentials = [
    await make('/v1/credentials', { name: 'login', kind: 'ssh', username: 'svc', password: 'a password' }),
    await make('/v1/credentials', { name: 'plain', kind: 'secret', secret: 'a secret of some length' }),
    await make('/v1/credentials', { name: 'records', ...dns, secret: { secret: 'x'.repeat(32) } }),
  ];
  const targets = [
    await make('/v1/targets', { name: 'web01', kind: 'iis', transport }),
    await make('/v1/targets', { name: 'files', kind: 'folder', path: '/nonexistent/files' }),
    await make('/v1/targets', {
      name: 'receiver',
      kind: 'webhook',
      url: 'http://127.0.0.1:1/',
      credential: credentials[1],
    }),
  ];
  const order = (name: string) => make('/v1/orders', { account, names: [name] });
  const orders = [await order('first.example.com'), await order('second.example.com')];
  await api.send('POST', `/v1/orders/${orders[1]}/cancel`);

  const issuer = createRootCa().intermediate('Test Intermediate');
  const box = createSecretBox(parseMasterKeys(lab.env.MASTER_KEY ?? ''));
  const privateKey = `${orders[0]}.1`;
  const pem = await createPrivateKeys(store.secrets, box).obtain(privateKey, () => generatePrivateKey('ec-p256'));
  const leaf = issuer.issue({ key: createPrivateKey(pem), names: ['first.example.com'] });
  const certificate = 'crt_fuzz';
  await store.certificates.create(
    {
      ...{ ...describeCertificate(leaf), leaf, privateKey, renewAt: 0, createdAt: Date.now() },
      ...{
        id: certificate,
        order: orders[0] ?? '',
        account,
        names: ['first.example.com'],
        keyType: 'ec-p256' as const,
      },
    },
    issuer.chainPem,
  );

  const keys: Record<string, string> = { junk: `certline_${'x'.repeat(43)}` };
  for (const scope of scopes)
    keys[scope] = String((await api.send('POST', '/v1/api-keys', { name: scope, scopes: [scope] })).key);
  const spare = await make('/v1/api-keys', { name: 'spare', scopes: ['orders:read'] });

  return {
    ...{ url: lab.apiUrl, redis, keys },
    document: (await (await fetch(`${lab.apiUrl}/openapi.json`)).json()) as OpenApi,
    known: {
      ...{ account: [account], credential: credentials, target: targets, order: orders, certificate: [certificate] },
      ...{ 'api-key': [spare], ca: [lab.pebble.directory], caBundle: [lab.pebble.caBundle] },
    },
    async errors() {
      const log = await readFile(join(lab.dir, 'api-1.log'), 'utf8');
      return log.split('\n').filter((line) => /"level":(50|60)|^(?!\{)\S/.test(line));
    },
    isAlive: async () => (await fetch(`${lab.apiUrl}/healthz`)).ok,
    async close() {
      redis.disconnect();
      await session.close();
    },
  };
}
