import { afterAll, beforeAll, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { DnsCredential } from '#libs/model/credential';
import { validated } from '#libs/model/transitions';
import type { Redis as RedisServer } from '../../services/lab/redis.ts';
import { createHeldOrdersRounds } from '../../services/scheduler/held-orders.ts';
import { openPipeline, type Pipeline, startTestRedis } from '../support/pipeline.ts';
import { acmeOrder } from '../support/sample-orders.ts';

let server: RedisServer;
const opened: Pipeline[] = [];
const credential: DnsCredential = {
  ...{ id: 'cred_1', name: 'DNS', createdAt: 0, kind: 'dns', provider: 'webhook', settings: {}, parked: null },
};
const refused = (): CertlineError =>
  new CertlineError('dns_credential_refused', 'wrong key', { plan: { kind: 'park', on: 'cred_1' } });

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(async () => {
  for (const pipeline of opened) await pipeline.close();
  await server?.close();
});

it('an order is parked on the credential that its error names, not on its account', async () => {
  const pipeline = openPipeline(server);
  opened.push(pipeline);
  await pipeline.store.credentials.create(credential);
  pipeline.startStage('validation', async () => {
    throw refused();
  });
  const { id } = await pipeline.enqueue();
  expect(await pipeline.until(id, ({ parkedOn }) => parkedOn !== null)).toMatchObject({ parkedOn: 'cred_1', epoch: 1 });
  expect(await pipeline.store.orders.parked('cred_1')).toEqual([id]);
  expect(await pipeline.store.credentials.get('cred_1')).toMatchObject({ parked: { detail: 'wrong key' } });
});

it('an order that is parked in the moment in which the credential is mended goes on by itself', async () => {
  const pipeline = openPipeline(server, {
    // Mended between the credential's being parked and the order's.
    park: async () => {},
  });
  opened.push(pipeline);
  await pipeline.store.credentials.create(credential);
  let runs = 0;
  pipeline.startStage('validation', async (order) => {
    runs += 1;
    if (runs === 1) throw refused();
    return validated(order, acmeOrder, Date.now());
  });
  const { id } = await pipeline.enqueue();
  expect(await pipeline.until(id, ({ status }) => status === 'validated')).toMatchObject({ parkedOn: null, epoch: 2 });
  const types = (await pipeline.store.history(id)).map(({ type }) => type);
  expect(types).toEqual(expect.arrayContaining(['order_parked', 'order_resumed']));
});

it('an order that is still held although its credential is mended is let go by the scheduler: who mended it may have died', async () => {
  const pipeline = openPipeline(server);
  opened.push(pipeline);
  const { store, producer, resources } = pipeline;
  await store.credentials.create(credential);
  let key = 'wrong';
  pipeline.startStage('validation', async (order) => {
    if (key === 'wrong') throw refused();
    return validated(order, acmeOrder, Date.now());
  });
  const { id } = await pipeline.enqueue();
  await pipeline.until(id, ({ parkedOn }) => parkedOn !== null);
  const { accounts, credentials, orders } = store;
  const later = { ...resources.clock, now: () => Date.now() };
  const look = createHeldOrdersRounds({ accounts, credentials, orders, producer, clock: later, log: resources.log });
  expect(await look()).toBe(0);
  key = 'right';
  await credentials.update('cred_1', (one) => (one.kind === 'dns' ? { ...one, parked: null } : one));
  later.now = () => Date.now() + 60_000;
  expect(await look()).toBe(1);
  expect(await pipeline.until(id, ({ status }) => status === 'validated')).toMatchObject({ parkedOn: null, epoch: 2 });
  later.now = () => Date.now() + 120_000;
  expect(await look()).toBe(0);
});
