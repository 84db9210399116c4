import { generateKeyPairSync } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { splitChain } from '#libs/crypto/x509';
import { readChain } from '#libs/service/certificate-reader';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { page, part, refusal, usualWith } from '../support/ca-faults.ts';
import { type Certified, crossSigned, issuer } from '../support/issuing-ca.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { problem, type ScriptedAnswer } from '../support/scripted-ca.ts';

/** What certline makes of certificates that are not what was asked for, and of a CA that takes its time with them. */
let server: Redis;
let driver: OrderDriver;
let id: string;

const day = 86_400_000;
const otherKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
const chained = (leaf: string): string => leaf + issuer.chainPem;

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

describe('a certificate fails the order, and is not kept,', () => {
  it.each<[string, (request: Certified) => string, string, string]>([
    [
      'without a name that was asked for',
      ({ names, key }) => chained(issuer.issue({ names: names.slice(1), key })),
      'certificate_mismatch',
      'lacks a.example.com',
    ],
    [
      'with a name that nobody asked for',
      ({ names, key }) => chained(issuer.issue({ names: [...names, 'evil.example'], key })),
      'certificate_mismatch',
      'evil.example',
    ],
    [
      'that has expired',
      (request) => chained(issuer.issue({ ...request, notAfter: driver.clock.now() - day / 24 })),
      'certificate_mismatch',
      'has expired',
    ],
    [
      'that is not valid yet',
      (request) => chained(issuer.issue({ ...request, notBefore: driver.clock.now() + day })),
      'certificate_mismatch',
      'not valid yet',
    ],
    [
      'that is one of a CA',
      (request) => chained(issuer.issue({ ...request, ca: true })),
      'certificate_mismatch',
      'of a CA',
    ],
    [
      'under a CA that did not sign it',
      (request) => issuer.issue(request) + createRootCa('Stranger').certificatePem,
      'chain_invalid',
      'is not the issuer',
    ],
  ])('%s', async (_, certify, code, words) => {
    driver.ca.certify = certify;
    expect(await driver.drive(id)).toEqual([`issuance failed ${code}`]);
    expect(await driver.shown(id)).toMatchObject({
      ...{ status: 'failed', stage: 'issuance', epoch: 1, attempts: { issuance: 1 }, certificate: null },
      error: { code, detail: expect.stringContaining(words) },
    });
    expect(driver.ca.orders).toHaveLength(1);
    expect(await driver.pipeline.store.certificates.count()).toBe(0);
  });
});

describe('a certificate for another key than the request', () => {
  it('is asked for once more, in another ACME order, since another request may have finalized this one; then the order fails', async () => {
    driver.ca.certify = ({ names }) => chained(issuer.issue({ names, key: otherKey }));
    expect(await driver.drive(id)).toEqual([
      'issuance restart certificate_mismatch in 60 s',
      'validation completed',
      'issuance failed certificate_mismatch',
    ]);
    expect(driver.ca.orders).toHaveLength(2);
    expect(await driver.pipeline.store.certificates.count()).toBe(0);
  });
});

describe('a download that cannot be read is repeated, without a second finalize:', () => {
  it.each<[string, ScriptedAnswer, string]>([
    ['a page', page(200), 'ca_protocol_error in 30 s'],
    ['nothing', { status: 200, body: '' }, 'ca_protocol_error in 30 s'],
    [
      'PEM around garbage',
      { status: 200, body: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' },
      'ca_protocol_error in 30 s',
    ],
    ['half of the chain', 'torn', 'ca_unreachable in 2 s'],
  ])('%s', async (_, answer, end) => {
    driver.ca.answer('certificate', answer);
    expect(await driver.drive(id)).toEqual([`issuance retry ${end}`, 'issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
  });

  it('but a chain of another type of content is taken', async () => {
    driver.ca.answer('certificate', usualWith({ headers: { 'content-type': 'text/plain' } }));
    expect(await driver.drive(id)).toEqual(['issuance completed']);
  });
});

describe('an answer to finalize that breaks off', () => {
  it('is no reason for another: the order is read, and there is one certificate', async () => {
    driver.ca.answer('finalize', 'torn');
    expect(await driver.drive(id)).toEqual(['issuance retry ca_unreachable in 2 s', 'issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
  });
});

describe('a chain that was asked for by name', () => {
  async function issuersOf(preferredChain: string): Promise<string> {
    const wanted = await driver.place({ preferredChain });
    expect((await driver.drive(wanted)).at(-1)).toBe('issuance completed');
    const { certificate } = await driver.shown(wanted);
    const { chainPem } = await readChain(driver.pipeline.store, String(certificate));
    return splitChain(chainPem).slice(1).join('');
  }

  it('is taken from the alternates of the CA, of which some cannot be read', async () => {
    driver.ca.alternates = [() => 'garbage', (request) => issuer.issue(request) + crossSigned.chainPem];
    expect(await issuersOf('Other Root')).toBe(crossSigned.chainPem);
  });

  it('is the default where no alternate is it, or can be had', async () => {
    driver.ca.alternates = [() => 'garbage', (request) => issuer.issue(request) + crossSigned.chainPem];
    expect(await issuersOf('No Root')).toBe(issuer.chainPem);
    driver.ca.answer('certificate', (usual) => usual, refusal('serverInternal'), 'reset');
    expect(await issuersOf('Other Root')).toBe(issuer.chainPem);
  });
});

describe('a CA that works on the request', () => {
  beforeEach(() => {
    driver.ca.afterFinalize = 'processing';
  });
  const asked = (retryAfter: string): ScriptedAnswer => usualWith({ headers: { 'retry-after': retryAfter } });

  it.each([
    ['when it says, as ZeroSSL does with a day', '86400', /in 24\.\d+ h$/],
    ['when it says with a date', new Date(Date.now() + day).toUTCString(), /in (1439|14\d\d|24)(\.\d+)? (min|h)$/],
    ['soon where it says nothing that can be read', 'later', /in 5(\.\d+)? s$/],
  ])('is asked again %s', async (_, retryAfter, when) => {
    driver.ca.answer('order', asked(retryAfter), asked(retryAfter), asked(retryAfter));
    const [end = ''] = await driver.drive(id, 1);
    expect(end).toMatch(/^issuance wait acme_order_processing /);
    expect(end).toMatch(when);
    expect(await driver.shown(id)).toMatchObject({
      attempts: { issuance: 0 },
      error: { code: 'acme_order_processing' },
    });
    for (const order of driver.ca.orders) order.status = 'valid';
    expect(await driver.drive(id)).toEqual(['issuance completed']);
    expect(driver.ca.count('finalize')).toBe(1);
  });

  it('and refuses it for several reasons is asked by the worst of them', async () => {
    await driver.drive(id, 1);
    const subproblems = [part('caa', 'a.example.com'), part('rejectedIdentifier', 'b.example.com')];
    for (const order of driver.ca.orders)
      Object.assign(order, { status: 'invalid', error: problem('compound', 'no', { subproblems }) });
    expect(await driver.drive(id)).toEqual(['issuance failed identifier_rejected']);
    expect(await driver.shown(id)).toMatchObject({ error: { detail: expect.stringContaining('b.example.com') } });
  });
});
