import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Redis } from '../../services/lab/redis.ts';
import {
  letsEncryptLimits,
  limitUntil,
  page,
  part,
  redirect,
  refusal,
  times,
  usualWith,
} from '../support/ca-faults.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { problem, type ScriptedAnswer } from '../support/scripted-ca.ts';

/** What certline makes of a CA that answers in ways of its own, moves, forgets, or turns its back on the account. */
let server: Redis;
let driver: OrderDriver;

const both = ['validation completed', 'issuance completed'];
const minutes = (count: number): number => count * 60_000;

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
beforeEach(async () => {
  driver = await openOrderDriver(server);
});
afterEach(() => driver.close());

describe('newOrder is answered', () => {
  const date = 'Mon, 23 Nov 2026 12:00:00 GMT';
  const limited = (retryAfter: string): ScriptedAnswer => refusal('rateLimited', { retryAfter, headers: { date } });
  it.each<[string, ScriptedAnswer[], string[], number]>([
    [
      'with a date, which is counted from that of the CA',
      [limited('Mon, 23 Nov 2026 12:10:00 GMT')],
      ['wait ca_rate_limited in 10.5 min'],
      2,
    ],
    [
      'with a date of the past, which is now',
      [limited('Mon, 23 Nov 2026 11:00:00 GMT')],
      ['wait ca_rate_limited in 0 s'],
      2,
    ],
    ['with a time that is none, which is an hour', [limited('soon')], ['wait ca_rate_limited in 60.5 min'], 2],
    ['with a nonce that is refused, three times over', times(3, refusal('badNonce')), [], 4],
    ['late', [{ afterMs: 30 }], [], 1],
    ['with what is done and an answer that breaks off', ['torn'], ['retry ca_unreachable in 2 s'], 2],
    ['with broken JSON', [usualWith({ body: '{"status":"pend' })], ['retry ca_protocol_error in 30 s'], 2],
    ['with the page of a proxy that calls it a success', [page(200)], ['retry ca_protocol_error in 30 s'], 2],
    ['with the page of a proxy that forbids it', [page(403)], ['retry ca_protocol_error in 30 s'], 2],
    ['with a redirect, which is not followed', [redirect('/newOrder')], ['retry ca_protocol_error in 30 s'], 2],
    ['without a Location', [usualWith({ headers: { location: '' } })], ['retry ca_protocol_error in 30 s'], 2],
    [
      'with a status that nobody knows',
      [usualWith({ body: { status: 'asleep' } })],
      ['retry ca_protocol_error in 30 s'],
      2,
    ],
    [
      'as another type of content, which is no matter',
      [usualWith({ headers: { 'content-type': 'text/html' } })],
      [],
      1,
    ],
  ])('%s', async (_, faults, ends, asked) => {
    driver.ca.answer('newOrder', ...faults);
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual([...ends.map((end) => `validation ${end}`), ...both]);
    expect(driver.ca.count('newOrder')).toBe(asked);
    expect(await driver.shown(id)).toMatchObject({ status: 'issued', epoch: 1, error: null, nextAttemptAt: null });
  });
});

describe('a limit of Let’s Encrypt, whose words alone name the time,', () => {
  const name = 'www.shop.example';
  it.each([
    [
      'on the orders of an account holds all of its orders',
      letsEncryptLimits.orders,
      [name, 'sub.shop.example', 'free.example'],
    ],
    ['on a domain holds the orders for that', letsEncryptLimits.domain('shop.example'), [name, 'sub.shop.example']],
    ['on a set of names holds the orders for exactly these', letsEncryptLimits.nameSet, [name]],
    ['on failed proofs of a name holds the orders with it', letsEncryptLimits.failures(name), [name]],
  ])('%s', async (_, words, held) => {
    const until = Math.ceil(driver.clock.now() / 1000) * 1000 + minutes(90);
    driver.ca.answer('newOrder', refusal('rateLimited', { detail: limitUntil(words, until) }));
    const first = await driver.place({ names: [name] });
    expect(await driver.drive(first, 1)).toEqual([expect.stringMatching(/^validation wait ca_rate_limited in 9\d/)]);
    const { error, nextAttemptAt } = await driver.shown(first);
    expect(Date.parse(String(nextAttemptAt))).toBeGreaterThanOrEqual(until);
    expect(error).toMatchObject({ code: 'ca_rate_limited', detail: expect.stringContaining(words) });

    const after: string[] = [];
    for (const other of [name, 'sub.shop.example', 'free.example']) {
      const [end = ''] = await driver.drive(await driver.place({ names: [other] }), 1);
      if (end.startsWith('validation wait ca_rate_limited')) after.push(other);
    }
    expect(after).toEqual(held);
    expect(await driver.drive(first)).toEqual(both);
  });

  it('and met while a name was proved, makes the new ACME order wait until then', async () => {
    const until = Math.ceil(driver.clock.now() / 1000) * 1000 + minutes(90);
    driver.ca.onChallenge = (order, authorization) => {
      const error = problem('rateLimited', limitUntil(letsEncryptLimits.failures('a.example.com'), until));
      Object.assign(authorization, { status: 'invalid', error });
      order.status = 'invalid';
    };
    const id = await driver.place({ names: ['a.example.com'] });
    expect(await driver.drive(id, 1)).toEqual([expect.stringMatching(/^validation restart ca_rate_limited in 9\d/)]);
  });
});

describe('a proof that fails for several reasons', () => {
  it.each([
    ['is tried again where all of them may pass', ['dns', 'connection'], 'restart ca_dns_problem in 60 s'],
    ['waits for the one that takes longest', ['dns', 'caa'], 'restart ca_dns_problem in 10.5 min'],
    ['fails the order where one of them is for good', ['dns', 'rejectedIdentifier'], 'failed identifier_rejected'],
  ])('%s', async (_, types, end) => {
    const subproblems = types.map((type) => part(type, 'a.example.com'));
    driver.ca.onChallenge = (order, authorization) => {
      Object.assign(authorization, {
        status: 'invalid',
        error: problem('compound', 'several things', { subproblems }),
      });
      order.status = 'invalid';
    };
    const id = await driver.place({ names: ['a.example.com'] });
    expect(await driver.drive(id, 1)).toEqual([`validation ${end}`]);
    for (const type of types)
      expect(await driver.shown(id)).toMatchObject({ error: { detail: expect.stringContaining(`(${type})`) } });
  });
});

describe('an ACME order whose time is over', () => {
  it('is replaced, also where the CA still calls it pending', async () => {
    driver.ca.onChallenge = () => {};
    const id = await driver.place();
    driver.ca.answer(
      'newOrder',
      usualWith({ body: { expires: new Date(driver.clock.now() + minutes(5)).toISOString() } }),
    );
    await driver.drive(id, 1);
    for (const order of driver.ca.orders) order.expires = driver.clock.now() + minutes(5);
    driver.clock.advance(minutes(6));
    expect(await driver.drive(id, 1)).toEqual(['validation restart validation_expired in 60 s']);
    driver.ca.onChallenge = null;
    expect(await driver.drive(id)).toEqual(both);
    expect(driver.ca.orders.map(({ status }) => status)).toEqual(['pending', 'valid']);
  });
});

/** An order as it is at a moment of its way. */
const moments = {
  async 'before newOrder'() {
    return driver.place();
  },
  async 'while its names are proved'() {
    driver.ca.onChallenge = () => {};
    const id = await driver.place();
    await driver.drive(id, 1);
    return id;
  },
  async 'before finalize'() {
    const id = await driver.place();
    await driver.drive(id, 1);
    return id;
  },
  async 'while the CA issues'() {
    driver.ca.afterFinalize = 'processing';
    const id = await driver.place();
    await driver.drive(id, 2);
    return id;
  },
  async 'before the download'() {
    driver.ca.answer('certificate', 'reset');
    const id = await driver.place();
    await driver.drive(id, 2);
    return id;
  },
};
type Moment = keyof typeof moments;

describe('an ACME order that the CA has forgotten', () => {
  it.each<[Moment, string]>([
    ['while its names are proved', 'validation'],
    ['before finalize', 'issuance'],
    ['while the CA issues', 'issuance'],
    ['before the download', 'issuance'],
  ])('%s is replaced by a new one', async (moment, stage) => {
    const id = await moments[moment]();
    for (const order of driver.ca.orders) order.forgotten = true;
    Object.assign(driver.ca, { onChallenge: null, afterFinalize: 'valid' });
    expect(await driver.drive(id)).toEqual([`${stage} restart acme_order_gone in 60 s`, ...both]);
    expect(await driver.shown(id)).toMatchObject({ status: 'issued', epoch: 2 });
  });
});

describe('an account', () => {
  const states = [
    ['that the CA has deactivated', { account: 'deactivated' }, 'account_unauthorized', 'has status "deactivated"'],
    ['that the CA does not know any more', { account: 'unknown' }, 'account_missing_at_ca', 'no such account'],
    [
      'that has to agree to new terms',
      { newTerms: 'https://ca.test/terms' },
      'terms_not_agreed',
      'https://ca.test/terms',
    ],
  ] as const;
  const every = Object.keys(moments) as Moment[];
  it.each(states.flatMap((state) => every.map((moment) => [state[0], moment, state] as const)))(
    '%s %s holds its orders',
    async (_what, moment, [, change, code, words]) => {
      const id = await moments[moment]();
      const { stage, attempts } = await driver.shown(id);
      Object.assign(driver.ca, change);
      expect(await driver.drive(id)).toEqual([`${stage} parked ${code}`]);
      const error = { code, detail: expect.stringContaining(words) };
      expect(await driver.shown(id)).toMatchObject({ parkedOn: 'acc_1', attempts, error });
      expect(await driver.pipeline.store.accounts.get('acc_1')).toMatchObject({ parked: error });
      // Others do not ask the CA.
      const asked = driver.ca.seen.length;
      expect(await driver.drive(await driver.place())).toEqual([`validation parked ${code}`]);
      expect(driver.ca.seen).toHaveLength(asked);
    },
  );
});

describe('a CA whose directory has changed', () => {
  it('is asked at its new addresses, which are looked up when the earlier ones lead nowhere', async () => {
    await driver.drive(await driver.place());
    driver.ca.move();
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual(['validation retry ca_protocol_error in 30 s', ...both]);
    expect(driver.ca.count('directory')).toBe(2);
  });

  it('or is broken for a while is asked for it again', async () => {
    driver.ca.answer('directory', page(200), { status: 200, body: { newNonce: 'nowhere' } }, refusal('serverInternal'));
    const id = await driver.place();
    expect(await driver.drive(id)).toEqual([
      'validation retry ca_protocol_error in 30 s',
      'validation retry ca_protocol_error in 60 s',
      expect.stringMatching(/^validation retry ca_unavailable in /),
      ...both,
    ]);
  });
});
