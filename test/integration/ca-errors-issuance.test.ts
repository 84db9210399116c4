import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { stages } from '#libs/queues/stages';
import type { Redis } from '../../services/lab/redis.ts';
import { page, refusal, times } from '../support/ca-faults.ts';
import type { CaOrder } from '../support/issuing-ca.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { problem, type ScriptedAnswer } from '../support/scripted-ca.ts';

/** What happens to an order whose names are proved when the CA does not issue. */
let server: Redis;
let driver: OrderDriver;
let id: string;

const notReady = refusal('orderNotReady');
const badCsr = refusal('badCSR');
const restarted = ['validation completed', 'issuance completed'];

const acmeOrder = (): CaOrder => {
  const order = driver.ca.orders.at(-1);
  if (!order) throw new Error('the CA has no order');
  return order;
};
const csrs = () => driver.ca.seen.flatMap(({ operation, payload }) => (operation === 'finalize' ? [payload] : []));
const keysMade = async () =>
  (await driver.pipeline.store.history(id)).filter(({ detail }) => detail === 'ec-p256 key made').length;

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  driver = await openOrderDriver(server);
  id = await driver.place();
  await driver.drive(id, 1);
});
afterEach(() => driver.close());

describe('finalize is tried again, with the same key', () => {
  it.each<[string, ScriptedAnswer, string]>([
    ['after an error of the CA', refusal('serverInternal'), 'retry ca_unavailable in 30 s'],
    ['not before the pause it names', refusal('serverInternal', { retryAfter: '60' }), 'retry ca_unavailable in 63 s'],
    ['after the pause of a rate limit', refusal('rateLimited', { retryAfter: '60' }), 'wait ca_rate_limited in 63 s'],
    ['after the pause of a load balancer', page(503, '7'), 'wait ca_unavailable in 7.35 s'],
    ['after a broken connection', 'reset', 'retry ca_unreachable in 2 s'],
    ['once, ten minutes after a CAA record forbade it', refusal('caa'), 'retry caa_forbids in 10.5 min'],
    ['after a problem of the CA’s DNS', refusal('dns'), 'retry ca_dns_problem in 5 s'],
  ])('%s', async (_, answer, end) => {
    driver.ca.answer('finalize', answer);
    expect(await driver.drive(id)).toEqual([`issuance ${end}`, 'issuance completed']);
    const issuance = end.startsWith('retry') ? 1 : 0;
    expect(await driver.read(id)).toMatchObject({ status: 'issued', error: null, epoch: 1, attempts: { issuance } });
    // In doubt the order is read before anything is sent again.
    const after = driver.ca.seen.map(({ operation }) => operation).slice(-5);
    expect(after.filter((one) => one !== 'newNonce').slice(-4)).toEqual([
      'finalize',
      'order',
      'finalize',
      'certificate',
    ]);
    expect(csrs()[0]).toEqual(csrs()[1]);
    expect(await keysMade()).toBe(1);
  });

  it('but not after its answer was lost: the order is read, and the certificate downloaded', async () => {
    driver.ca.answer('finalize', 'lost');
    expect(await driver.drive(id)).toEqual(['issuance retry ca_unreachable in 2 s', 'issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
    expect(driver.ca.orders).toHaveLength(1);
  });

  it('but not when the CA still works on what it was sent', async () => {
    driver.ca.answer('finalize', 'lost');
    driver.ca.afterFinalize = 'processing';
    expect(await driver.drive(id, 3)).toEqual([
      'issuance retry ca_unreachable in 2 s',
      'issuance wait acme_order_processing in 5.25 s',
      'issuance wait acme_order_processing in 5.25 s',
    ]);
    acmeOrder().status = 'valid';
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
  });
});

describe('finalize of an order that is not ready', () => {
  it.each<[CaOrder['status'], string[], number]>([
    ['processing', ['issuance wait acme_order_processing in 5.25 s'], 1],
    ['invalid', ['issuance restart acme_order_invalid in 60 s', ...restarted], 2],
    ['pending', ['issuance restart acme_order_invalid in 60 s', ...restarted], 2],
  ])('but %s does what that state asks for', async (status, ends, orders) => {
    driver.ca.answer('finalize', notReady);
    acmeOrder().status = status;
    expect(await driver.drive(id, ends.length)).toEqual(ends);
    expect(driver.ca.orders).toHaveLength(orders);
    expect(driver.ca.count('finalize')).toBe(orders);
  });

  it('but valid downloads the certificate', async () => {
    driver.ca.answer('finalize', 'lost', notReady);
    await driver.drive(id, 1);
    expect(await driver.drive(id)).toEqual(['issuance completed']);
  });

  it('but ready after all is sent once more', async () => {
    driver.ca.answer('finalize', notReady);
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(driver.ca.count('finalize')).toBe(2);
    expect(csrs()[0]).toEqual(csrs()[1]);
  });

  it('and never becomes so is given up after the attempts of the stage', async () => {
    const { attempts } = stages.issuance.retry;
    driver.ca.answer('finalize', ...times(3 * attempts, notReady));
    const ends = await driver.drive(id);
    expect(ends).toHaveLength(attempts);
    expect(ends[0]).toBe('issuance retry acme_order_not_ready in 5 s');
    expect(ends.at(-1)).toBe('issuance failed acme_order_not_ready');
    expect(driver.ca.count('finalize')).toBe(2 * attempts);
  });
});

describe('a signing request that the CA refuses', () => {
  it.each([
    ['badCSR', badCsr],
    ['badPublicKey', refusal('badPublicKey')],
    [
      'unauthorized, because of its names',
      refusal('unauthorized', { detail: 'CSR does not specify same identifiers as Order' }),
    ],
  ])('as %s is replaced by one with a new key', async (_, answer) => {
    driver.ca.answer('finalize', answer);
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(csrs()).toHaveLength(2);
    expect(csrs()[0]).not.toEqual(csrs()[1]);
    expect(await keysMade()).toBe(2);
    expect(driver.ca.orders).toHaveLength(1);
  });

  it('twice fails the order', async () => {
    driver.ca.answer('finalize', badCsr, badCsr);
    expect(await driver.drive(id)).toEqual(['issuance failed csr_rejected']);
    expect(await driver.read(id)).toMatchObject({
      status: 'failed',
      stage: 'issuance',
      error: { code: 'csr_rejected' },
    });
    expect(await keysMade()).toBe(2);
  });

  it.each(['processing', 'invalid'] as const)('is not replaced while the order is %s', async (status) => {
    driver.ca.answer('finalize', badCsr);
    acmeOrder().status = status;
    expect(await driver.drive(id)).toEqual(['issuance failed csr_rejected']);
    expect(await keysMade()).toBe(1);
  });
});

describe('finalize fails the order', () => {
  it.each([
    ['for a profile that is not offered', 'profile_invalid', refusal('invalidProfile')],
    ['for a rejected name', 'identifier_rejected', refusal('rejectedIdentifier')],
    ['for a malformed request', 'ca_malformed', refusal('malformed')],
    ['for another algorithm', 'ca_signature_algorithm', refusal('badSignatureAlgorithm')],
    ['for CAA of an onion name', 'caa_forbids', refusal('onionCAARequired')],
  ])('%s', async (_, code, answer) => {
    driver.ca.answer('finalize', answer);
    expect(await driver.drive(id)).toEqual([`issuance failed ${code}`]);
    expect(await driver.read(id)).toMatchObject({
      ...{ status: 'failed', stage: 'issuance', attempts: { issuance: 1 } },
      error: { code, stage: 'issuance', detail: expect.stringContaining('the CA says') },
    });
    expect(driver.ca.count('finalize')).toBe(1);
  });

  it('when a CAA record forbids it twice', async () => {
    driver.ca.answer('finalize', refusal('caa'), refusal('caa'));
    expect(await driver.drive(id)).toEqual(['issuance retry caa_forbids in 10.5 min', 'issuance failed caa_forbids']);
  });
});

describe('finalize abandons the ACME order', () => {
  it.each([
    ['that is gone', 'acme_order_gone', refusal('malformed', { status: 404 })],
    ['whose proofs have run out', 'acme_order_invalid', refusal('unauthorized')],
  ])('%s', async (_, code, answer) => {
    driver.ca.answer('finalize', answer);
    expect(await driver.drive(id)).toEqual([`issuance restart ${code} in 60 s`, ...restarted]);
    expect(await driver.read(id)).toMatchObject({ status: 'issued', epoch: 2, restarts: 1 });
    expect(driver.ca.orders).toHaveLength(2);
  });

  it('and holds all orders of an account that the CA no longer knows', async () => {
    driver.ca.answer('finalize', refusal('accountDoesNotExist'));
    expect(await driver.drive(id)).toEqual(['issuance parked account_missing_at_ca']);
    expect(await driver.read(id)).toMatchObject({ status: 'validated', parkedOn: 'acc_1', attempts: { issuance: 0 } });
  });
});

describe('a CA that takes its time to issue', () => {
  beforeEach(() => {
    driver.ca.afterFinalize = 'processing';
  });

  it('is asked every five seconds, without a second finalize and without an attempt', async () => {
    expect(await driver.drive(id, 10)).toEqual(Array(10).fill('issuance wait acme_order_processing in 5.25 s'));
    acmeOrder().status = 'valid';
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(await driver.read(id)).toMatchObject({ attempts: { issuance: 0 }, error: null });
    expect(driver.ca.count('finalize')).toBe(1);
  });

  it.each<[string, ScriptedAnswer, string]>([
    ['has an error of its own', refusal('serverInternal'), 'retry ca_unavailable in 30 s'],
    ['limits its answers', refusal('rateLimited', { retryAfter: '60' }), 'wait ca_rate_limited in 63 s'],
    ['breaks the connection', 'reset', 'retry ca_unreachable in 2 s'],
  ])('is asked again when it %s', async (_, answer, end) => {
    driver.ca.answer('order', answer);
    expect(await driver.drive(id, 1)).toEqual([`issuance ${end}`]);
    acmeOrder().status = 'valid';
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
  });

  it.each([
    ['without a reason', null, 'restart acme_order_invalid in 60 s'],
    ['for a CAA record', problem('caa', 'CAA forbids it'), 'restart caa_forbids in 10.5 min'],
    ['for proofs that ran out', problem('unauthorized', 'no'), 'restart acme_order_invalid in 12.5 min'],
    ['for an error of its own', problem('serverInternal', 'no'), 'restart ca_unavailable in 60 s'],
    ['for a rejected name', problem('rejectedIdentifier', 'no'), 'failed identifier_rejected'],
    ['for the key', problem('badPublicKey', 'no'), 'failed csr_rejected'],
  ])('and then gives the order up %s', async (_, error, end) => {
    await driver.drive(id, 1);
    Object.assign(acmeOrder(), { status: 'invalid', error });
    expect(await driver.drive(id, 1)).toEqual([`issuance ${end}`]);
    if (error) expect((await driver.read(id)).error?.detail).toContain(error.detail);
    driver.ca.afterFinalize = 'valid';
    if (end.startsWith('restart')) expect(await driver.drive(id)).toEqual(restarted);
  });
});

describe('a download', () => {
  it.each<[string, ScriptedAnswer, string]>([
    ['that the CA does not have yet', refusal('malformed', { status: 404 }), 'retry acme_order_processing in 5 s'],
    ['that meets an error of the CA', refusal('serverInternal'), 'retry ca_unavailable in 30 s'],
    ['that is limited', refusal('rateLimited', { retryAfter: '60' }), 'wait ca_rate_limited in 63 s'],
    ['that breaks off', 'reset', 'retry ca_unreachable in 2 s'],
    ['that is no certificate', { status: 200, body: '<html>Welcome to the hotel' }, 'retry ca_protocol_error in 30 s'],
  ])('%s is repeated without a second finalize', async (_, answer, end) => {
    driver.ca.answer('certificate', answer);
    expect(await driver.drive(id)).toEqual([`issuance ${end}`, 'issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
    expect(driver.ca.count('certificate')).toBe(2);
    expect(await driver.pipeline.store.certificates.count()).toBe(1);
  });

  it('of an order that is another account’s by now is given up for a new ACME order', async () => {
    driver.ca.answer('certificate', refusal('unauthorized'));
    expect(await driver.drive(id)).toEqual(['issuance restart acme_order_gone in 60 s', ...restarted]);
  });
});

describe('a 404 page of a proxy is not the word of the CA', () => {
  it('that the order is gone: it is asked again, and there is one certificate', async () => {
    const before = driver.ca.orders.length;
    driver.ca.afterFinalize = 'processing';
    driver.ca.answer('order', page(404));
    expect(await driver.drive(id, 1)).toEqual(['issuance retry ca_protocol_error in 30 s']);
    acmeOrder().status = 'valid';
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(driver.ca.orders).toHaveLength(before);
    expect(driver.ca.count('finalize')).toBe(1);
  });

  it('nor on finalize, which the CA may have got all the same', async () => {
    const before = driver.ca.orders.length;
    driver.ca.answer('finalize', page(404));
    expect(await driver.drive(id)).toEqual(['issuance retry ca_protocol_error in 30 s', 'issuance completed']);
    expect(driver.ca.orders).toHaveLength(before);
  });
});

describe('two orders for the same names at a CA that gives both the same ACME order', () => {
  it('end with a certificate each, the second one after a new ACME order', async () => {
    driver.ca.reusesOrders = true;
    const [first, second] = [
      await driver.place({ names: ['twin.example.com'] }),
      await driver.place({ names: ['twin.example.com'] }),
    ];
    const before = driver.ca.orders.length;
    await driver.drive(first, 1);
    await driver.drive(second, 1);
    expect(driver.ca.orders).toHaveLength(before + 1);
    expect(await driver.drive(first)).toEqual(['issuance completed']);
    expect(await driver.drive(second)).toEqual(['issuance restart acme_order_taken in 5 s', ...restarted]);
    expect(driver.ca.orders).toHaveLength(before + 2);
    for (const order of [first, second])
      expect(await driver.read(order)).toMatchObject({ status: 'issued', error: null });
  });
});
