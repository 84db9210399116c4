import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import { registerEstateMetrics } from '#libs/metrics/estate';
import type { DnsCredential } from '#libs/model/credential';
import type { Redis } from '../../services/lab/redis.ts';
import { fakeClock } from '../support/fake-clock.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';

/** A credential that a provider refuses is noted once, whoever meets it. */
let server: Redis;
let pipeline: Pipeline;
const credential: DnsCredential = {
  ...{ id: 'cred_1', name: 'DNS', createdAt: 0, kind: 'dns', provider: 'webhook', settings: {}, parked: null },
};
const refused = new CertlineError('dns_credential_refused', 'wrong key');

async function told(): Promise<unknown[]> {
  const entries = await pipeline.redis.xrange(pipeline.store.keys.events, '-', '+');
  return entries.map(([, [, text = '']]) => {
    const { type, on } = JSON.parse(text);
    return `${type} ${on}`;
  });
}
const mend = (id: string) =>
  pipeline.store.credentials.update(id, (one) => (one.kind === 'dns' ? { ...one, parked: null } : one));

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  pipeline = openPipeline(server);
  await pipeline.store.credentials.create(credential);
});
afterEach(() => pipeline.close());

describe('a credential that is refused', () => {
  it('by many orders at the same time is told of once, and once more when it is refused after it was mended', async () => {
    const { settings, store } = pipeline;
    await Promise.all(Array.from({ length: 20 }, () => settings.park('cred_1', refused)));
    expect(await told()).toEqual(['credential_parked cred_1']);
    expect(await store.credentials.countParked()).toBe(1);
    await Promise.all(Array.from({ length: 5 }, () => mend('cred_1')));
    expect(await told()).toEqual(['credential_parked cred_1', 'credential_resumed cred_1']);
    expect(await store.credentials.countParked()).toBe(0);
    await settings.park('cred_1', refused);
    expect((await told()).at(-1)).toBe('credential_parked cred_1');
    expect(await told()).toHaveLength(3);
  });

  it('and deleted is counted no more, and was not mended', async () => {
    const { settings, store } = pipeline;
    await settings.park('cred_1', refused);
    await store.credentials.remove('cred_1');
    expect(await store.credentials.countParked()).toBe(0);
    expect(await told()).toEqual(['credential_parked cred_1']);
  });

  it('is in a gauge, accounts in another', async () => {
    const { settings, store } = pipeline;
    for (const id of ['cred_2', 'cred_3']) await store.credentials.create({ ...credential, id, name: id });
    await settings.park('cred_2', refused);
    const registry = new Registry();
    const none = async (): Promise<number> => 0;
    const estate = {
      ...{ countOrders: none, countExpiring: none, nextExpiry: none, countRenewalDue: none, oldestJob: none },
      ...{ queueNames: async () => [], queueCounts: async () => ({}), isServed: async () => true },
      ...{ countTargets: none, countDrift: none, countDriftedPlaces: none },
      ...{ countAccounts: store.accounts.count, countParkedAccounts: store.accounts.countParked },
      ...{ countCredentials: store.credentials.count, countParkedCredentials: store.credentials.countParked },
    };
    registerEstateMetrics(registry, estate, fakeClock());
    const text = await registry.metrics();
    expect(text.split('\n').filter((line) => /^certline_(accounts|credentials)/.test(line))).toEqual([
      'certline_accounts{state="ok"} 0',
      'certline_accounts{state="parked"} 0',
      'certline_credentials{state="ok"} 2',
      'certline_credentials{state="parked"} 1',
    ]);
  });
});
