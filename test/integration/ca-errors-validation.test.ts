import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Redis } from '../../services/lab/redis.ts';
import { refusal } from '../support/ca-faults.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { problem, type ScriptedAnswer } from '../support/scripted-ca.ts';

/** What happens to an order when the CA does not believe it. */
let server: Redis;
let driver: OrderDriver;

const both = ['validation completed', 'issuance completed'];

/** From now on, or that many times, the CA looks at a challenge and finds this wrong. */
function disbelieve(error: object, times = Number.POSITIVE_INFINITY, alsoOrder = true): void {
  let left = times;
  driver.ca.onChallenge = (order, authorization) => {
    left -= 1;
    const believes = left < 0;
    authorization.status = believes ? 'valid' : 'invalid';
    authorization.error = believes ? null : error;
    if (!believes && alsoOrder) order.status = 'invalid';
  };
}

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  driver = await openOrderDriver(server);
});
afterEach(() => driver.close());

describe('a name that the CA does not believe is tried with a new ACME order', () => {
  it.each([
    ['a minute after it could not be resolved', 'dns', 'ca_dns_problem in 60 s'],
    ['a minute after it could not be reached', 'connection', 'ca_connection_problem in 60 s'],
    ['a minute after a TLS error', 'tls', 'ca_tls_problem in 60 s'],
    ['a minute after it gave another answer', 'incorrectResponse', 'ca_wrong_answer in 60 s'],
    ['a minute after it led elsewhere', 'malformed', 'ca_wrong_answer in 60 s'],
    ['a minute after an error of the CA', 'serverInternal', 'ca_unavailable in 60 s'],
    ['twelve minutes after a missing answer', 'unauthorized', 'ca_wrong_answer in 12.5 min'],
    ['ten minutes after a CAA record forbade it', 'caa', 'caa_forbids in 10.5 min'],
    ['an hour after a rate limit', 'rateLimited', 'ca_rate_limited in 60.5 min'],
    ['a minute after what nobody foresaw', 'typeOfTomorrow', 'acme_order_invalid in 60 s'],
  ])('%s', async (_, type, end) => {
    disbelieve(problem(type, `the CA saw ${type}`), 1);
    const id = await driver.place({ names: ['a.example.com'] });
    expect(await driver.drive(id, 1)).toEqual([`validation restart ${end}`]);
    expect(await driver.read(id)).toMatchObject({
      ...{ status: 'pending', epoch: 2, restarts: 1, acmeOrder: null, attempts: { validation: 1 }, presented: [] },
      error: {
        ...{ code: end.split(' ')[0], stage: 'validation', detail: expect.stringContaining(`the CA saw ${type}`) },
        evidence: { name: 'a.example.com', challenge: 'http-01', type },
      },
    });
    expect(await driver.drive(id)).toEqual(both);
    expect(driver.ca.count('newOrder')).toBe(2);
    expect(await driver.read(id)).toMatchObject({ status: 'issued', error: null, epoch: 2 });
  });

  it.each([
    ['two', 'caa', ['10.5 min']],
    ['three', 'unauthorized', ['12.5 min', '12.5 min']],
    ['six', 'dns', ['60 s', '10 min', '100 min', '24 h', '24 h']],
  ])('but for no more than %s ACME orders where the problem is %s', async (_, type, pauses) => {
    disbelieve(problem(type, 'no'));
    const id = await driver.place({ names: ['a.example.com'] });
    const ends = await driver.drive(id);
    expect(ends.slice(0, -1).map((end) => end.split(' in ')[1])).toEqual(pauses);
    expect(ends.at(-1)).toMatch(/^validation failed /);
    expect(await driver.read(id)).toMatchObject({ status: 'failed', stage: 'validation' });
    expect(driver.ca.count('newOrder')).toBe(pauses.length + 1);
  });

  it.each(['rejectedIdentifier', 'unsupportedIdentifier', 'onionCAARequired'])(
    'but not where the problem is %s',
    async (type) => {
      disbelieve(problem(type, 'no'));
      const id = await driver.place({ names: ['a.example.com'] });
      expect(await driver.drive(id)).toEqual([
        expect.stringMatching(/^validation failed (identifier_rejected|caa_forbids)$/),
      ]);
    },
  );

  it('when the CA gives the order up before it says so of the order', async () => {
    disbelieve(problem('dns', 'no'), 1, false);
    const id = await driver.place({ names: ['a.example.com'] });
    // The order stays pending: the next look at the authorizations tells.
    expect(await driver.drive(id)).toEqual([
      'validation wait validation_pending in 5.25 s',
      'validation restart ca_dns_problem in 60 s',
      ...both,
    ]);
  });

  it('and the order shows which of its names it was', async () => {
    driver.ca.onChallenge = (order, authorization) => {
      const believes = authorization.name === 'a.example.com';
      authorization.status = believes ? 'valid' : 'invalid';
      authorization.error = believes ? null : problem('rejectedIdentifier', 'no');
      if (!believes) order.status = 'invalid';
    };
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual(['validation failed identifier_rejected']);
    const { identifiers, error } = await driver.read(id);
    expect(identifiers.map(({ name, status }) => `${name} ${status}`)).toEqual([
      'a.example.com valid',
      'b.example.com invalid',
    ]);
    expect(error?.detail).toContain('b.example.com');
  });
});

describe('an authorization that is over', () => {
  it.each(['deactivated', 'expired', 'revoked'] as const)(
    'because it is %s asks for a new ACME order',
    async (status) => {
      const id = await driver.place();
      driver.ca.answer('challenge', 'reset');
      await driver.drive(id, 1);
      for (const one of driver.ca.orders[0]?.authorizations ?? []) one.status = status;
      expect(await driver.drive(id)).toEqual(['validation restart validation_expired in 60 s', ...both]);
      expect(await driver.read(id)).toMatchObject({ status: 'issued', epoch: 2 });
    },
  );
});

describe('an ACME order', () => {
  it.each([
    ['that is gone', refusal('malformed', { status: 404 })],
    ['that is gone without a word', { status: 404, body: '' }],
    ['that is another account’s', refusal('unauthorized')],
  ])('%s is replaced', async (_, answer) => {
    const id = await driver.place();
    driver.ca.answer('challenge', 'reset');
    await driver.drive(id, 1);
    driver.ca.answer('order', answer);
    expect(await driver.drive(id)).toEqual(['validation restart acme_order_gone in 60 s', ...both]);
    expect(driver.ca.orders.map(({ status }) => status)).toEqual(['pending', 'valid']);
  });

  it('that is invalid without a reason is replaced', async () => {
    const id = await driver.place();
    driver.ca.answer('challenge', 'reset');
    await driver.drive(id, 1);
    const [order] = driver.ca.orders;
    if (order) order.status = 'invalid';
    expect(await driver.drive(id)).toEqual(['validation restart acme_order_invalid in 60 s', ...both]);
  });

  it('that the CA has proofs for already is validated without any challenge', async () => {
    driver.ca.onChallenge = () => {
      throw new Error('nothing is to be proved');
    };
    const id = await driver.place();
    driver.ca.answer('authorization', 'reset', 'reset');
    await driver.drive(id, 1);
    const [order] = driver.ca.orders;
    for (const one of order?.authorizations ?? []) one.status = 'valid';
    if (order) order.status = 'ready';
    expect(await driver.drive(id)).toEqual(both);
    expect(driver.ca.count('challenge')).toBe(0);
  });
});

describe('a CA that takes its time to validate', () => {
  it('is asked every five seconds, and no attempt is used', async () => {
    driver.ca.onChallenge = () => {};
    const id = await driver.place();
    expect(await driver.drive(id, 10)).toEqual(Array(10).fill('validation wait validation_pending in 5.25 s'));
    expect(await driver.read(id)).toMatchObject({ status: 'pending', attempts: { validation: 0 } });
    for (const one of driver.ca.orders[0]?.authorizations ?? []) one.status = 'valid';
    for (const one of driver.ca.orders) one.status = 'ready';
    expect(await driver.drive(id)).toEqual(both);
  });

  it('is asked when it says, if it says', async () => {
    const id = await driver.place({ names: ['a.example.com'] });
    driver.ca.onChallenge = (order) => {
      const body = {
        ...{ status: 'pending', identifiers: [{ type: 'dns', value: 'a.example.com' }], authorizations: [] },
        finalize: driver.ca.url('finalize'),
      };
      driver.ca.answer('order', { status: 200, headers: { 'retry-after': '90' }, body });
      order.status = 'ready';
    };
    expect(await driver.drive(id)).toEqual([
      expect.stringMatching(/^validation wait validation_pending in 9[34]\b.* s$/),
      ...both,
    ]);
  });
});

describe('a request about authorizations and challenges', () => {
  const answers: [string, ScriptedAnswer, string][] = [
    ['is repeated after an error of the CA', refusal('serverInternal'), 'retry ca_unavailable in 30 s'],
    ['waits as long as the CA says', refusal('rateLimited', { retryAfter: '60' }), 'wait ca_rate_limited in 63 s'],
    ['is repeated after a broken connection', 'reset', 'retry ca_unreachable in 2 s'],
    ['gives the ACME order up that is gone', refusal('malformed', { status: 404 }), 'restart acme_order_gone in 60 s'],
  ];
  it.each(answers.flatMap((row) => (['authorization', 'challenge'] as const).map((one) => [one, ...row] as const)))(
    '(%s) %s',
    async (operation, _, answer, end) => {
      driver.ca.answer(operation, answer);
      const id = await driver.place({ names: ['a.example.com'] });
      expect(await driver.drive(id)).toEqual([`validation ${end}`, ...both]);
      const restarts = end.startsWith('restart') ? 1 : 0;
      expect(driver.ca.count('newOrder')).toBe(1 + restarts);
      expect(await driver.read(id)).toMatchObject({ status: 'issued', restarts, error: null });
    },
  );

  it('tells the CA of a challenge once, when its answer was lost', async () => {
    driver.ca.answer('challenge', 'lost');
    const id = await driver.place({ names: ['a.example.com'] });
    expect(await driver.drive(id)).toEqual(['validation retry ca_unreachable in 2 s', ...both]);
    expect(driver.ca.count('challenge')).toBe(1);
  });

  it('does not tell it again while the CA is still looking', async () => {
    driver.ca.onChallenge = () => {};
    driver.ca.answer('challenge', 'lost');
    const id = await driver.place({ names: ['a.example.com'] });
    expect(await driver.drive(id, 2)).toEqual([
      'validation retry ca_unreachable in 2 s',
      'validation wait validation_pending in 5.25 s',
    ]);
    expect(driver.ca.count('challenge')).toBe(1);
  });

  it('goes on where a challenge has been looked at meanwhile', async () => {
    const id = await driver.place({ names: ['a.example.com'] });
    // Another run told the CA between our look at the authorization and our request.
    driver.ca.answer('challenge', refusal('malformed'));
    driver.ca.answer('order', refusal('serverInternal'));
    expect(await driver.drive(id, 1)).toEqual(['validation retry ca_unavailable in 30 s']);
    const [order] = driver.ca.orders;
    const [authorization] = order?.authorizations ?? [];
    if (order && authorization) [order.status, authorization.status] = ['ready', 'valid'];
    expect(await driver.drive(id)).toEqual(both);
    expect(driver.ca.count('challenge')).toBe(1);
    expect(driver.ca.count('newOrder')).toBe(1);
  });
});
