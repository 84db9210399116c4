import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { restartPolicy, stages } from '#libs/queues/stages';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import type { Redis } from '../../services/lab/redis.ts';
import { compound, page, part, refusal, times } from '../support/ca-faults.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import type { ScriptedAnswer } from '../support/scripted-ca.ts';

/** What happens to an order when the CA refuses newOrder, or its account. */
let server: Redis;
let driver: OrderDriver;

const both = ['validation completed', 'issuance completed'];

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  driver = await openOrderDriver(server);
});
afterEach(() => driver.close());

describe('an order that the CA takes', () => {
  it('is validated and issued, with one request for each step', async () => {
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual(both);
    expect(await driver.read(id)).toMatchObject({ status: 'issued', error: null, epoch: 1 });
    const { ca } = driver;
    expect(['newOrder', 'challenge', 'finalize', 'certificate'].map((one) => ca.count(one as 'order'))).toEqual([
      1, 2, 1, 1,
    ]);
  });
});

describe('newOrder is tried again', () => {
  it.each<[string, ScriptedAnswer[], string[]]>([
    [
      'after the pause that a rate limit names',
      [refusal('rateLimited', { retryAfter: '300' })],
      ['wait ca_rate_limited in 5.25 min'],
    ],
    ['an hour after a rate limit that names no pause', [refusal('rateLimited')], ['wait ca_rate_limited in 60.5 min']],
    ['after the pause that a load balancer names', [page(503, '30')], ['wait ca_unavailable in 31.5 s']],
    ['an hour after a load balancer that limits and names no pause', [page(429)], ['wait ca_rate_limited in 60.5 min']],
    [
      'after the backoff when a load balancer names no pause',
      [page(503), page(502)],
      ['retry ca_unavailable in 30 s', 'retry ca_unavailable in 60 s'],
    ],
    ['after the backoff of an error of the CA', [refusal('serverInternal')], ['retry ca_unavailable in 30 s']],
    [
      'not before the pause that an error of the CA names',
      [refusal('serverInternal', { retryAfter: '60' })],
      ['retry ca_unavailable in 63 s'],
    ],
    ['after nine nonces that were refused', times(9, refusal('badNonce')), ['retry ca_bad_nonce in 2 s']],
    ['after a connection that broke', ['reset'], ['retry ca_unreachable in 2 s']],
    ['after a type of problem that nobody knows', [refusal('typeOfTomorrow')], ['retry ca_protocol_error in 30 s']],
    ['once, ten minutes after a CAA record forbade it', [refusal('caa')], ['retry caa_forbids in 10.5 min']],
    ['after a DNS problem of the CA', [refusal('dns')], ['retry ca_dns_problem in 5 s']],
    [
      'at the time of the latest part of a compound problem',
      [compound(part('dns', 'a.example.com'), part('caa', 'b.example.com'))],
      ['retry ca_dns_problem in 10.5 min'],
    ],
  ])('%s', async (_, answers, ends) => {
    driver.ca.answer('newOrder', ...answers);
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual([...ends.map((end) => `validation ${end}`), ...both]);
    const validation = ends.filter((end) => end.startsWith('retry')).length;
    expect(await driver.read(id)).toMatchObject({ status: 'issued', error: null, epoch: 1, attempts: { validation } });
  });

  it('after a lost answer: the order that nobody knows is left to the CA', async () => {
    driver.ca.answer('newOrder', 'lost');
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual(['validation retry ca_unreachable in 2 s', ...both]);
    expect(driver.ca.orders.map(({ status }) => status)).toEqual(['pending', 'valid']);
    expect(await driver.read(id)).toMatchObject({ status: 'issued' });
  });

  it('until the attempts of the stage are used up', async () => {
    const { attempts } = stages.validation.retry;
    driver.ca.answer('newOrder', ...times(attempts, refusal('serverInternal')));
    const id = await driver.place();
    const ends = await driver.drive(id);
    expect(ends).toHaveLength(attempts);
    expect(ends.at(-2)).toBe('validation retry ca_unavailable in 60 min');
    expect(ends.at(-1)).toBe('validation failed ca_unavailable');
    expect(await driver.read(id)).toMatchObject({
      ...{ status: 'failed', stage: 'validation', attempts: { validation: attempts }, acmeOrder: null },
      error: { code: 'ca_unavailable', detail: expect.stringContaining('the CA says serverInternal') },
    });
  });

  it.each([
    ['the problem', 'caa_forbids', refusal('caa')],
    ['a part of it', 'ca_dns_problem', compound(part('dns', 'a.example.com'), part('caa', 'b.example.com'))],
  ])('no more than once where a CAA record is %s', async (_, code, answer) => {
    driver.ca.answer('newOrder', answer, answer);
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual([`validation retry ${code} in 10.5 min`, `validation failed ${code}`]);
    expect(driver.ca.count('newOrder')).toBe(2);
  });
});

describe('newOrder fails the order at once', () => {
  it.each<[string, string, ScriptedAnswer, string]>([
    ['a rejected name', 'identifier_rejected', refusal('rejectedIdentifier'), 'the CA says'],
    ['an unsupported name', 'identifier_rejected', refusal('unsupportedIdentifier'), 'the CA says'],
    [
      'a rejected name among others',
      'identifier_rejected',
      compound(part('rejectedIdentifier', 'b.example.com'), part('dns', 'a.example.com')),
      'b.example.com',
    ],
    ['a profile it does not have', 'profile_invalid', refusal('invalidProfile'), 'the CA says'],
    [
      'a profile the account may not use',
      'profile_invalid',
      refusal('unauthorized', { detail: 'no such profile for you' }),
      'no such profile',
    ],
    [
      'a paused account',
      'ca_account_paused',
      refusal('rateLimited', { detail: 'paused: see https://ca.test/sfe/v1/unpause?jwt=x' }),
      'https://ca.test/sfe/v1/unpause?jwt=x',
    ],
    ['a malformed request', 'ca_malformed', refusal('malformed'), 'the CA says'],
    [
      'another algorithm',
      'ca_signature_algorithm',
      refusal('badSignatureAlgorithm', { members: { algorithms: ['RS256'] } }),
      'it takes RS256',
    ],
    ['a bad account key', 'ca_signature_algorithm', refusal('badPublicKey'), 'the CA says'],
    ['CAA for an onion name', 'caa_forbids', refusal('onionCAARequired'), 'the CA says'],
    ['a delegation it does not know', 'ca_malformed', refusal('unknownDelegation'), 'the CA says'],
    ['automatic renewal it ended', 'ca_malformed', refusal('autoRenewalCanceled'), 'the CA says'],
  ])('for %s', async (_, code, answer, words) => {
    driver.ca.answer('newOrder', answer);
    const id = await driver.place({ profile: 'shortlived' });
    expect(await driver.drive(id)).toEqual([`validation failed ${code}`]);
    expect(await driver.read(id)).toMatchObject({
      ...{ status: 'failed', stage: 'validation', attempts: { validation: 1 }, nextAttemptAt: null },
      error: { code, stage: 'validation', detail: expect.stringContaining(words), evidence: { operation: 'newOrder' } },
    });
    expect(driver.ca.count('newOrder')).toBe(1);
  });

  it('for a CA whose TLS certificate is not trusted', async () => {
    const root = createRootCa();
    const key = String(root.privateKey.export({ format: 'pem', type: 'pkcs8' }));
    const tls = createServer({ key, cert: root.certificatePem }, (_, response) => response.end('{}'));
    await new Promise<void>((resolve) => tls.listen(0, '127.0.0.1', resolve));
    const other = await openOrderDriver(server, `https://127.0.0.1:${(tls.address() as AddressInfo).port}/directory`);
    const id = await other.place();
    expect(await other.drive(id)).toEqual(['validation failed ca_untrusted']);
    await other.close();
    await new Promise((resolve) => tls.close(resolve));
  });

  it('but not while the CA is away: it is tried again', async () => {
    const other = await openOrderDriver(server, 'http://127.0.0.1:9/directory');
    const id = await other.place();
    expect(await other.drive(id, 2)).toEqual([
      'validation retry ca_unreachable in 2 s',
      'validation retry ca_unreachable in 4 s',
    ]);
    expect(await other.read(id)).toMatchObject({ error: { evidence: { code: 'ECONNREFUSED' } } });
    await other.close();
  });
});

describe('newOrder holds all orders of the account', () => {
  it.each([
    ['the CA does not know it', 'account_missing_at_ca', refusal('accountDoesNotExist')],
    ['it is deactivated', 'account_unauthorized', refusal('unauthorized')],
    [
      'it wants new terms agreed to',
      'terms_not_agreed',
      refusal('userActionRequired', { members: { instance: 'https://ca.test/terms/2' } }),
    ],
    ['it wants an external account binding', 'eab_required', refusal('externalAccountRequired')],
    ['it does not like the contact', 'contact_refused', refusal('invalidContact')],
    ['it cannot reach the contact', 'contact_refused', refusal('unsupportedContact')],
  ])('when %s', async (_, code, answer) => {
    driver.ca.answer('newOrder', answer);
    const [first, second] = [await driver.place(), await driver.place()];
    expect(await driver.drive(first)).toEqual([`validation parked ${code}`]);
    expect(await driver.drive(second)).toEqual([`validation parked ${code}`]);
    expect(driver.ca.count('newOrder')).toBe(1);
    for (const id of [first, second]) {
      const order = await driver.read(id);
      expect(order).toMatchObject({ status: 'pending', parkedOn: 'acc_1', attempts: { validation: 0 } });
      expect(order.error?.code).toBe(code);
    }
    const detail = expect.stringContaining(code === 'terms_not_agreed' ? 'https://ca.test/terms/2' : 'the CA says');
    expect(await driver.pipeline.store.accounts.get('acc_1')).toMatchObject({ parked: { code, detail } });
  });

  it('and an order goes on with a new ACME order when its own belongs to the account that is gone', async () => {
    const id = await driver.place();
    driver.ca.answer('challenge', refusal('accountDoesNotExist'));
    expect(await driver.drive(id)).toEqual(['validation parked account_missing_at_ca']);
    await driver.pipeline.store.accounts.update(driver.account.id, () => driver.account);
    const parked = await driver.read(id);
    await driver.pipeline.store.orders.save(parked, { ...parked, parkedOn: null, epoch: 2 }, []);
    driver.ca.answer('order', refusal('unauthorized'));
    expect(await driver.drive(id)).toEqual(['validation restart acme_order_gone in 60 s', ...both]);
    expect(await driver.read(id)).toMatchObject({ status: 'issued', epoch: 3, restarts: 1 });
  });
});

describe('a registration', () => {
  const registration = { email: 'ops@example.com', termsOfServiceAgreed: true };
  it.each<[string, string, ScriptedAnswer, object]>([
    ['wants an external account binding', 'eab_required', refusal('externalAccountRequired'), { kind: 'park' }],
    ['wants terms agreed to', 'terms_not_agreed', refusal('userActionRequired'), { kind: 'park' }],
    ['refuses the contact', 'contact_refused', refusal('invalidContact'), { kind: 'park' }],
    ['does not know such contacts', 'contact_refused', refusal('unsupportedContact'), { kind: 'park' }],
    ['takes no such keys', 'ca_signature_algorithm', refusal('badPublicKey'), { kind: 'permanent' }],
    ['takes no such signatures', 'ca_signature_algorithm', refusal('badSignatureAlgorithm'), { kind: 'permanent' }],
    ['limits registrations', 'ca_rate_limited', refusal('rateLimited', { retryAfter: '60' }), { kind: 'wait' }],
    ['has an error of its own', 'ca_unavailable', refusal('serverInternal'), { kind: 'retryable' }],
  ])('is told when the CA %s', async (_, code, answer, plan) => {
    driver.ca.answer('newAccount', answer);
    const session = await driver.sessions.of({ ...driver.account, url: null });
    await expect(session.register(registration)).rejects.toMatchObject({ code, plan });
    expect(driver.ca.count('newAccount')).toBe(1);
    expect(await session.register(registration)).toMatchObject({ status: 'valid' });
  });
});

describe('ACME orders that fail one after the other', () => {
  it('are replaced after longer and longer pauses, and then no more', async () => {
    driver.ca.answer('authorization', ...times(50, refusal('malformed', { status: 404 })));
    const id = await driver.place();
    const pauses = ['60 s', '10 min', '100 min', '24 h', '24 h'];
    expect(await driver.drive(id)).toEqual([
      ...pauses.map((pause) => `validation restart acme_order_gone in ${pause}`),
      'validation failed acme_order_gone',
    ]);
    expect(driver.ca.count('newOrder')).toBe(restartPolicy.attempts);
    expect(await driver.read(id)).toMatchObject({ status: 'failed', epoch: 6, restarts: 5 });
  });
});
