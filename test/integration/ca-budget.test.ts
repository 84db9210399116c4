import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type CaLimits, type Claim, caLimitChangesSchema, caLimitTable, claimsOf } from '#libs/model/ca-limits';
import { type CaBudget, createCaBudget, redisTime } from '#libs/store/ca-budget';
import { createKeys, type Keys } from '#libs/store/keys';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import type { Redis as LabRedis } from '../../services/lab/redis.ts';
import { startTestRedis } from '../support/pipeline.ts';

/** The budget of a CA in a real Redis, on a clock that the test holds; a namespace for each test. */
let server: LabRedis;
let redis: RedisClient;
let other: RedisClient;
let keys: Keys;
let budget: CaBudget;
let now: number;
const directory = 'https://ca.example/directory';
const [minute, hour, day] = [60_000, 3_600_000, 86_400_000];

beforeAll(async () => {
  server = await startTestRedis();
  redis = connectRedis(server.url, 'worker', () => {});
  other = connectRedis(server.url, 'worker', () => {});
});
afterAll(async () => {
  redis.disconnect();
  other.disconnect();
  await server.close();
});
beforeEach(() => {
  keys = createKeys(`test-${randomUUID()}`);
  now = Date.UTC(2026, 0, 1);
  budget = createCaBudget(redis, keys, async () => now);
});

function limitsOf(limits: Record<string, string>): CaLimits {
  return caLimitTable(caLimitChangesSchema.parse(JSON.stringify({ [directory]: limits }))).get(directory) ?? {};
}

interface Asked {
  order: string;
  epoch?: number;
  names?: string[];
  account?: string;
  maxWaitMs?: number;
}

function requestOf(limits: CaLimits, { order, epoch = 1, names = [`${order}.example`], account = 'acc_1' }: Asked) {
  return { directory, claims: claimsOf({ account, names }, limits, false), order, epoch };
}

/** How long it must wait and for what; `taken` when it need not. */
async function take(limits: CaLimits, asked: Asked, of = budget): Promise<string> {
  const shortage = await of.take(requestOf(limits, asked), asked.maxWaitMs ?? 8 * day);
  return shortage ? `${shortage.waitMs / 1000} s for ${shortage.claim.limit}` : 'taken';
}

const hold = (claim: Claim, forMs: number, words: string): Promise<void> =>
  budget.hold(directory, claim, forMs, words, {
    ...{ id: `acc_1-${now}`, on: 'acc_1', at: now, type: 'account_limited', detail: words },
  });

async function left(limits: CaLimits, limit: 'orders_per_account' | 'certificates_per_domain'): Promise<number> {
  const rate = limits[limit];
  if (!rate) throw new Error('no such limit');
  return Math.round((await budget.remaining(directory, limit, rate)) * 1000) / 1000;
}

describe('the budget', () => {
  it('is never exceeded by workers that take at the same time', async () => {
    const limits = limitsOf({ orders_per_account: '30/1h' });
    const workers = [budget, createCaBudget(other, keys, async () => now)] as const;
    const ends = await Promise.all(
      Array.from({ length: 60 }, (_, i) => take(limits, { order: `o${i}` }, i % 2 ? workers[1] : workers[0])),
    );
    expect(ends.filter((end) => end === 'taken')).toHaveLength(30);
    // Each of the others has a turn of its own.
    expect(new Set(ends).size).toBe(31);
    expect(await left(limits, 'orders_per_account')).toBe(0);
  });

  it('comes back one by one, and each order that waits is let through at its turn, before those that come later', async () => {
    const limits = limitsOf({ orders_per_account: '2/10m' });
    expect(await take(limits, { order: 'a' })).toBe('taken');
    expect(await take(limits, { order: 'b' })).toBe('taken');
    expect(await take(limits, { order: 'c' })).toBe('300 s for orders_per_account');
    expect(await take(limits, { order: 'd' })).toBe('600 s for orders_per_account');
    now += 299_999;
    expect(await take(limits, { order: 'c' })).toBe('0.001 s for orders_per_account');
    now += 1;
    expect(await take(limits, { order: 'e' })).toBe('600 s for orders_per_account');
    expect(await take(limits, { order: 'd' })).toBe('300 s for orders_per_account');
    expect(await take(limits, { order: 'c' })).toBe('taken');
    now += 300_000;
    expect(await take(limits, { order: 'd' })).toBe('taken');
    now += 2 * 600_000;
    expect(await take(limits, { order: 'f' })).toBe('taken');
    expect(await left(limits, 'orders_per_account')).toBe(0.5);
  });

  it('keeps nobody in the line of a rate that was changed', async () => {
    const before = limitsOf({ orders_per_account: '2/7d' });
    for (const order of ['a', 'b']) expect(await take(before, { order })).toBe('taken');
    expect(await take(before, { order: 'c' })).toBe('302400 s for orders_per_account');
    expect(await take(before, { order: 'd' })).toBe('604800 s for orders_per_account');
    const after = limitsOf({ orders_per_account: '168/7d' });
    expect(await take(after, { order: 'd' })).toBe('3600 s for orders_per_account');
    expect(await take(after, { order: 'c' })).toBe('7200 s for orders_per_account');
    now += 3_600_000;
    expect(await take(after, { order: 'd' })).toBe('taken');
  });

  it('outlives a clock that was wrong for a while', async () => {
    const limits = limitsOf({ orders_per_account: '1/1h' });
    now += 3_650 * day;
    expect(await take(limits, { order: 'a' })).toBe('taken');
    expect(await take(limits, { order: 'b' })).toBe('3600 s for orders_per_account');
    const [claim] = requestOf(limits, { order: 'c' }).claims;
    if (claim) await hold(claim, 60_000, 'later');
    now -= 3_650 * day;
    expect(await take(limits, { order: 'c' })).toBe('3600 s for orders_per_account');
    now += 3_600_000;
    expect(await take(limits, { order: 'c' })).toBe('taken');
  });

  it('is held as long as the longest that the CA has said', async () => {
    const [claim] = requestOf({}, { order: 'a' }).claims;
    if (!claim) throw new Error('an order counts for its account');
    await hold(claim, 3_600_000, 'an hour');
    await hold(claim, 60_000, 'a minute');
    expect(await take({}, { order: 'a' })).toBe('3600 s for orders_per_account');
    await hold(claim, 7_200_000, 'two hours');
    expect(await take({}, { order: 'a' })).toBe('7200 s for orders_per_account');
    // Told of when it begins, and when it is longer than it was.
    const told = await redis.xrange(keys.events, '-', '+');
    expect(told.map(([, fields]) => JSON.parse(fields[1] ?? ''))).toMatchObject([
      { type: 'account_limited', on: 'acc_1', detail: 'an hour' },
      { type: 'account_limited', on: 'acc_1', detail: 'two hours' },
    ]);
    expect(await budget.held()).toEqual([{ directory, limit: 'orders_per_account' }]);
    now += 7_200_000;
    expect(await budget.held()).toEqual([]);
  });

  it('is taken once however often the same order asks in an epoch', async () => {
    const limits = limitsOf({ orders_per_account: '2/1h' });
    expect(await Promise.all([1, 2, 3, 4].map(() => take(limits, { order: 'a' })))).toEqual(Array(4).fill('taken'));
    expect(await left(limits, 'orders_per_account')).toBe(0.5);
    expect(await take(limits, { order: 'a', epoch: 2 })).toBe('taken');
    expect(await left(limits, 'orders_per_account')).toBe(0);
  });

  it('of certificates is taken once for all ACME orders that an order needs for one', async () => {
    const limits = limitsOf({ certificates_per_domain: '2/7d', certificates_per_name_set: '2/7d' });
    const names = ['www.shop.example'];
    for (const epoch of [1, 2, 3, 4]) expect(await take(limits, { order: 'a', epoch, names })).toBe('taken');
    expect(await left(limits, 'certificates_per_domain')).toBe(0.5);
    expect(await take(limits, { order: 'b', names: ['other.shop.example'] })).toBe('taken');
    expect(await take(limits, { order: 'c', names: ['third.shop.example'] })).toBe(
      '302400 s for certificates_per_domain',
    );
  });

  it('of certificates is given back once by an order that will have none', async () => {
    const limits = limitsOf({ orders_per_account: '4/1h', certificates_per_domain: '2/7d' });
    for (const order of ['a', 'b']) await take(limits, { order, names: [`${order}.shop.example`] });
    expect(await left(limits, 'certificates_per_domain')).toBe(0);
    await Promise.all([1, 2, 3].map(() => redis.giveBackBudget(keys.caBudgetOrder('a'), 'certificate')));
    expect(await left(limits, 'certificates_per_domain')).toBe(0.5);
    expect(await left(limits, 'orders_per_account')).toBe(0.5);
    expect(await take(limits, { order: 'c', names: ['c.shop.example'] })).toBe('taken');
  });

  it('of orders is given back once by one that the CA refused, which keeps what it took for its certificate', async () => {
    const limits = limitsOf({ orders_per_account: '4/1h', certificates_per_domain: '2/7d' });
    const names = ['a.shop.example'];
    await take(limits, { order: 'a', names });
    await Promise.all([1, 2].map(() => budget.giveBackOrder('a')));
    expect(await left(limits, 'orders_per_account')).toBe(1);
    expect(await left(limits, 'certificates_per_domain')).toBe(0.5);
    expect(await take(limits, { order: 'a', names })).toBe('taken');
    expect(await left(limits, 'orders_per_account')).toBe(0.75);
    expect(await left(limits, 'certificates_per_domain')).toBe(0.5);
  });

  it('has no place in its line for orders that were called off', async () => {
    const limits = limitsOf({ orders_per_account: '1/1h' });
    await take(limits, { order: 'a' });
    for (const order of ['b', 'c', 'd']) await take(limits, { order });
    expect(await take(limits, { order: 'e' })).toBe('14400 s for orders_per_account');
    for (const order of ['b', 'c', 'd', 'e']) await redis.giveBackBudget(keys.caBudgetOrder(order), 'certificate');
    expect(await take(limits, { order: 'f' })).toBe('3600 s for orders_per_account');
  });

  it('is taken of all limits or of none', async () => {
    const limits = limitsOf({ orders_per_account: '10/1h', certificates_per_domain: '1/7d' });
    expect(await take(limits, { order: 'a', names: ['a.shop.example'] })).toBe('taken');
    const both = ['b.shop.example', 'b.free.example'];
    expect(await take(limits, { order: 'b', names: both })).toBe('604800 s for certificates_per_domain');
    expect(await left(limits, 'orders_per_account')).toBe(0.9);
    expect(await take(limits, { order: 'c', names: ['c.free.example'] })).toBe('taken');
  });

  it('keeps no turn for an order that must not wait so long', async () => {
    const limits = limitsOf({ orders_per_account: '1/1h' });
    await take(limits, { order: 'a' });
    expect(await take(limits, { order: 'b', maxWaitMs: minute })).toBe('3600 s for orders_per_account');
    expect(await take(limits, { order: 'c' })).toBe('3600 s for orders_per_account');
  });

  it('is looked at without being taken', async () => {
    const limits = limitsOf({ orders_per_account: '1/1h' });
    expect(await budget.look(requestOf(limits, { order: 'a' }))).toBeNull();
    expect(await take(limits, { order: 'a' })).toBe('taken');
    expect(await budget.look(requestOf(limits, { order: 'b' }))).toMatchObject({ waitMs: hour });
    expect(await budget.look(requestOf(limits, { order: 'b' }))).toMatchObject({ waitMs: hour });
  });

  it('is another one for each account, and each CA', async () => {
    const limits = limitsOf({ orders_per_account: '1/1h' });
    expect(await take(limits, { order: 'a' })).toBe('taken');
    expect(await take(limits, { order: 'b', account: 'acc_2' })).toBe('taken');
    const elsewhere = { ...requestOf(limits, { order: 'c' }), directory: 'https://other.example/directory' };
    expect(await budget.take(elsewhere, day)).toBeNull();
  });
});

describe('failed validations', () => {
  const limits = limitsOf({ failed_validations_per_name: '2/1h' });
  const names = ['bad.example', 'good.example'];
  const fail = async (url: string): Promise<void> => {
    const claim = claimsOf({ account: 'acc_1', names }, limits, false).findLast(({ about }) => about === 'bad.example');
    if (claim) await budget.count(directory, claim, url);
  };

  it('bar the name for its account until the first of them is forgotten, and count once for an authorization', async () => {
    for (const _ of [1, 2, 3]) await fail('https://ca.example/challenge/1');
    expect(await take(limits, { order: 'a', names })).toBe('taken');
    await fail('https://ca.example/challenge/2');
    expect(await take(limits, { order: 'b', names })).toBe('1800 s for failed_validations_per_name');
    expect(await take(limits, { order: 'c', names: ['good.example'] })).toBe('taken');
    expect(await take(limits, { order: 'd', names, account: 'acc_2' })).toBe('taken');
    now += hour / 2;
    expect(await take(limits, { order: 'b', names })).toBe('taken');
    expect(await take(limits, { order: 'e', names })).toBe('taken');
  });
});

describe('more failed validations than the CA allows', () => {
  it('bar the name no longer than as many as it allows', async () => {
    const limits = limitsOf({ failed_validations_per_name: '2/1h' });
    const claims = claimsOf({ account: 'acc_1', names: ['bad.example'] }, limits, false);
    for (let count = 1; count <= 20; count += 1)
      for (const claim of claims.slice(-1)) await budget.count(directory, claim, `https://ca.example/${count}`);
    expect(await take(limits, { order: 'a', names: ['bad.example'] })).toBe('1800 s for failed_validations_per_name');
  });
});

describe('a hold by the CA', () => {
  it('counts for what it names, with or without a limit, and ends', async () => {
    const [account] = claimsOf({ account: 'acc_1', names: ['a.example'] }, {}, false);
    if (!account) throw new Error('no claim');
    await hold(account, minute, 'slow down');
    expect(await budget.take(requestOf({}, { order: 'a' }), day)).toMatchObject({ waitMs: minute, words: 'slow down' });
    expect(await take({}, { order: 'b', account: 'acc_2' })).toBe('taken');
    const limits = limitsOf({ orders_per_account: '60/1h' });
    expect(await take(limits, { order: 'c' })).toBe('60 s for orders_per_account');
    // Not all at once when it is over.
    expect(await take(limits, { order: 'd' })).toBe('120 s for orders_per_account');
    now += minute;
    expect(await take({}, { order: 'a' })).toBe('taken');
  });
});

describe('what is kept in Redis', () => {
  it('has the hash tag of all keys, and an end', async () => {
    const limits = limitsOf({ orders_per_account: '1/1h', certificates_per_domain: '5/7d' });
    const claim = claimsOf(
      { account: 'acc_1', names: ['x.example'] },
      limitsOf({ failed_validations_per_name: '2/1h' }),
      false,
    )[3];
    await take(limits, { order: 'a' });
    await take(limits, { order: 'b' });
    if (claim) await budget.count(directory, claim, 'https://ca.example/challenge/1');
    if (claim) await hold(claim, minute, 'no');
    const all = (await redis.keys(`${keys.tag}*`)).filter((key) => key !== keys.events);
    expect(all).toHaveLength(9);
    expect(await redis.keys('*')).toEqual(expect.arrayContaining(all));
    for (const key of all) {
      expect(key.startsWith(`${keys.tag}:`)).toBe(true);
      expect(await redis.pttl(key), key).toBeGreaterThan(0);
    }
  });

  it('is on the clock of Redis', async () => {
    const [seconds] = await redis.time();
    expect(Math.abs((await redisTime(redis)) - Number(seconds) * 1000)).toBeLessThan(5_000);
  });
});
