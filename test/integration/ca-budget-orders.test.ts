import { Registry } from 'prom-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { registerCaBudgetMetric } from '#libs/metrics/ca-budget';
import { caLabel } from '#libs/model/account';
import { caLimitNames, caLimitTable, claimsOf } from '#libs/model/ca-limits';
import { cancelled, continued } from '#libs/model/transitions';
import { stages } from '#libs/queues/stages';
import { createCaBudget } from '#libs/store/ca-budget';
import type { Redis } from '../../services/lab/redis.ts';
import { createBudgetReader } from '../../services/scheduler/ca-budgets.ts';
import { createBudgetGuard } from '../../services/validation-worker/budget-guard.ts';
import { type OrderDriver, openOrderDriver } from '../support/order-driver.ts';
import { startTestRedis } from '../support/pipeline.ts';
import { orderRequest } from '../support/sample-orders.ts';
import { problem, type ScriptedAnswer } from '../support/scripted-ca.ts';

/** Orders and the limits of their CA: through the real validation stage, to a CA over HTTP. */
let server: Redis;
let driver: OrderDriver;
const requestLimits = caLimitNames.filter((limit) => limit.startsWith('requests'));
const waits = expect.stringMatching(/^validation wait ca_budget_spent in /);
const both = ['validation completed', 'issuance completed'];
const limited = (detail: string, seconds: number): ScriptedAnswer => ({
  ...{ status: 429, headers: { 'retry-after': String(seconds) }, body: problem('rateLimited', detail) },
});

beforeAll(async () => {
  server = await startTestRedis();
});
afterAll(() => server.close());
afterEach(() => driver.close());

async function open(limits: Record<string, string | boolean> = {}): Promise<void> {
  driver = await openOrderDriver(server, undefined, limits);
}
const place = (...names: string[]): Promise<string> => driver.place({ names });

describe('an order over a limit of the CA', () => {
  it('waits, says until when and for what, and does not ask the CA', async () => {
    await open({ certificates_per_domain: '1/7d' });
    const begun = driver.clock.now();
    expect(await driver.drive(await place('one.shop.example'))).toEqual(both);
    const id = await place('two.shop.example');
    expect(await driver.drive(id, 1)).toEqual([waits]);
    const order = await driver.read(id);
    expect((order.nextAttemptAt ?? 0) - begun).toBe(7 * 86_400_000);
    const time = new Date(order.nextAttemptAt ?? 0).toISOString();
    expect(order).toMatchObject({
      ...{ status: 'pending', epoch: 1, restarts: 0, acmeOrder: null, attempts: { validation: 0 } },
      error: {
        code: 'ca_budget_spent',
        detail: `A limit of the CA is used up (certificates per registered domain: 1 in 7 days for shop.example at ${driver.account.ca}). This order goes on at ${time}.`,
        evidence: { limit: 'certificates_per_domain', for: 'shop.example', until: order.nextAttemptAt },
      },
    });
    expect(driver.ca.count('newOrder')).toBe(1);
    expect(await driver.drive(id)).toEqual(both);
    expect(driver.ca.count('newOrder')).toBe(2);
  });

  it('has a time of its own, and all are issued at theirs', async () => {
    await open({ orders_per_account: '2/2h' });
    const ids = [
      await place('a.example'),
      await place('b.example'),
      await place('c.example'),
      await place('d.example'),
    ];
    const begun = driver.clock.now();
    for (const id of ids) await driver.drive(id, 1);
    const waiting = await Promise.all(ids.map(driver.read));
    const minutes = waiting.map(({ nextAttemptAt }) => nextAttemptAt && Math.round((nextAttemptAt - begun) / 60_000));
    expect(minutes).toEqual([null, null, 60, 120]);
    for (const id of ids) expect((await driver.drive(id)).at(-1)).toBe('issuance completed');
    expect(driver.ca.count('newOrder')).toBe(4);
  });

  it('fails at once when it had to wait longer than it may', async () => {
    await open({ certificates_per_name_set: '1/30d' });
    await driver.drive(await place('a.example'));
    const id = await place('a.example');
    expect(await driver.drive(id)).toEqual(['validation failed ca_budget_spent']);
    const detail = expect.stringMatching(
      /1 in 30 days for exactly these names .* wait until 20.*Z, longer than the 8 days/,
    );
    expect(await driver.read(id)).toMatchObject({ status: 'failed', error: { code: 'ca_budget_spent', detail } });
    expect(driver.ca.count('newOrder')).toBe(1);
  });

  it('is let through when its ACME order is open already', async () => {
    await open({ orders_per_account: '1/1h' });
    const id = await place('a.example');
    driver.ca.answer('authorization', { status: 500, body: problem('serverInternal', 'no') });
    expect(await driver.drive(id, 1)).toEqual(['validation retry ca_unavailable in 30 s']);
    const order = await driver.read(id);
    const { orders } = driver.pipeline.store;
    if (order.status === 'pending') await orders.save(order, continued(order, driver.clock.now()), []);
    expect(await driver.drive(id)).toEqual(both);
    expect(await driver.read(id)).toMatchObject({ epoch: 2 });
    expect(driver.ca.count('newOrder')).toBe(1);
  });

  it('is let through as a renewal of exactly its names where the CA exempts that', async () => {
    const limits = { orders_per_account: '1/1h', certificates_per_domain: '1/7d' };
    await open({ ...limits, renewals_exempt: true });
    expect(await driver.drive(await place('a.example', 'b.example'))).toEqual(both);
    expect(await driver.drive(await place('b.example', 'a.example'))).toEqual(both);
    expect(await driver.drive(await place('a.example'), 1)).toEqual([waits]);
  });

  it('counts once as a certificate however often it is begun anew, and again when it is to have another one', async () => {
    await open({ certificates_per_name_set: '2/7d' });
    const id = await place('a.example');
    const gone: ScriptedAnswer = { status: 404, body: problem('malformed', 'gone') };
    driver.ca.answer('authorization', gone, gone, gone);
    expect((await driver.drive(id)).filter((end) => end.includes('restart'))).toHaveLength(3);
    const budget = async () => (await driver.budget.look(asked('a.example')))?.claim.limit ?? 'free';
    expect(await budget()).toBe('free');
    expect(await driver.budget.take({ ...asked('a.example'), order: id, epoch: 9 }, 0)).toBeNull();
    expect(await budget()).toBe('certificates_per_name_set');
  });

  it('gives back what it took for a certificate when it ends without one', async () => {
    await open({ orders_per_account: '9/9h', certificates_per_domain: '1/7d' });
    driver.ca.answer('authorization', { status: 500, body: problem('serverInternal', 'no') });
    const first = await place('a.shop.example');
    await driver.drive(first, 1);
    const second = await place('b.shop.example');
    expect(await driver.drive(second, 1)).toEqual([waits]);
    const { orders } = driver.pipeline.store;
    for (const id of [first, second]) {
      const order = await driver.read(id);
      expect(await orders.save(order, cancelled(order, driver.clock.now()), [])).not.toBeNull();
    }
    driver.ca.answer('newOrder', { status: 400, body: problem('rejectedIdentifier', 'not this one') });
    expect(await driver.drive(await place('c.shop.example'))).toEqual(['validation failed identifier_rejected']);
    expect(await driver.drive(await place('d.shop.example'))).toEqual(both);
    expect(await driver.drive(await place('e.shop.example'), 1)).toEqual([waits]);
  });

  it('gives back its ACME order when the CA refuses to open it, and not when the CA fails', async () => {
    await open({ orders_per_account: '2/2h' });
    const refused = { status: 400, body: problem('rejectedIdentifier', 'not this one') };
    driver.ca.answer('newOrder', refused, refused);
    for (const name of ['a.example', 'b.example'])
      expect(await driver.drive(await place(name))).toEqual(['validation failed identifier_rejected']);
    expect(await driver.drive(await place('c.example'))).toEqual(both);
    driver.ca.answer('newOrder', { status: 500, body: problem('serverInternal', 'no') });
    const failing = await place('d.example');
    expect(await driver.drive(failing, 1)).toEqual([expect.stringMatching(/^validation retry ca_unavailable/)]);
    expect(await driver.drive(await place('e.example'), 1)).toEqual([waits]);
    expect(await driver.drive(failing)).toEqual(both);
  });

  it('gives back what it took for a certificate when it is called off before finalize, and not after', async () => {
    await open({ certificates_per_domain: '1/7d' });
    const { orders } = driver.pipeline.store;
    async function callOff(id: string): Promise<void> {
      const order = await driver.read(id);
      expect(await orders.save(order, cancelled(order, driver.clock.now()), [])).not.toBeNull();
    }
    const first = await place('a.shop.example');
    expect(await driver.drive(first, 1)).toEqual(['validation completed']);
    const waiting = await place('b.shop.example');
    expect(await driver.drive(waiting, 1)).toEqual([waits]);
    for (const id of [first, waiting]) await callOff(id);
    const second = await place('c.shop.example');
    driver.ca.answer('finalize', 'lost');
    expect(await driver.drive(second, 2)).toEqual([
      'validation completed',
      expect.stringMatching(/^issuance retry ca_unreachable/),
    ]);
    await callOff(second);
    expect(await driver.drive(await place('d.shop.example'), 1)).toEqual([waits]);
  });

  it('is told of beforehand, and takes nothing by that', async () => {
    await open({ orders_per_account: '1/1h' });
    const { store } = driver.pipeline;
    const limits = caLimitTable({
      [driver.account.directory]: { orders_per_account: { count: 1, windowMs: 3_600_000, text: '1/1h' } },
    });
    const guard = createBudgetGuard({ store: { ...store, caBudget: driver.budget }, limits });
    const look = () => guard.look(orderRequest({ names: ['a.example'] }), driver.account, driver.clock.now());
    expect([await look(), await look()]).toEqual([null, null]);
    const begun = driver.clock.now();
    expect(await driver.drive(await place('a.example'))).toEqual(both);
    expect(await look()).toMatchObject({
      code: 'ca_budget_spent',
      plan: { kind: 'wait', until: begun + 3_600_000 },
    });
  });
});

function asked(...names: string[]) {
  const rate = { count: 2, windowMs: 7 * 86_400_000, text: '2/7d' };
  const { directory, id } = driver.account;
  return { directory, claims: claimsOf({ account: id, names }, { certificates_per_name_set: rate }, false) };
}

describe('a failed validation', () => {
  it('counts for its name alone, and no further than the limit', async () => {
    await open({ failed_validations_per_name: '2/5h' });
    driver.ca.onChallenge = (order, authorization) => {
      const isGood = authorization.name === 'good.example';
      authorization.status = isGood ? 'valid' : 'invalid';
      authorization.error = isGood ? null : problem('connection', 'nobody there');
      order.status = 'invalid';
    };
    const id = await place('good.example', 'bad.example');
    expect(await driver.drive(id, 3)).toEqual([
      'validation restart ca_connection_problem in 60 s',
      'validation restart ca_connection_problem in 10 min',
      expect.stringMatching(/^validation wait ca_budget_spent in 1\d\d(\.\d+)? min$/),
    ]);
    expect(await driver.read(id)).toMatchObject({
      ...{ epoch: 3, restarts: 2, acmeOrder: null },
      error: { evidence: { limit: 'failed_validations_per_name', for: 'bad.example' } },
    });
    driver.ca.onChallenge = null;
    expect(await driver.drive(await place('good.example'))).toEqual(both);
    expect(await driver.drive(await place('bad.example'), 1)).toEqual([waits]);
    expect(await driver.drive(id)).toEqual(both);
  });
});

describe('a 429 in spite of it', () => {
  it('holds the other orders of the account, with the words of the CA, and no other account', async () => {
    await open();
    await driver.addAccount({ ...driver.account, id: 'acc_2', email: 'other@example.com' });
    driver.ca.answer('newOrder', limited('too many new orders (300) from this account', 600));
    const [first, second] = [await place('a.example'), await place('b.example')];
    const third = await driver.place({ names: ['c.example'], account: 'acc_2' });
    const ends = [...(await driver.drive(first, 1)), ...(await driver.drive(second, 1))];
    expect(ends).toEqual(Array(2).fill(expect.stringMatching(/^validation wait ca_rate_limited in (10\.5 min|629\.)/)));
    expect(driver.ca.count('newOrder')).toBe(1);
    expect(await driver.read(second)).toMatchObject({
      ...{ attempts: { validation: 0 }, acmeOrder: null },
      error: {
        code: 'ca_rate_limited',
        detail: expect.stringContaining('too many new orders (300) from this account'),
      },
    });
    expect(await driver.drive(third)).toEqual(both);
    expect(await driver.drive(second)).toEqual(both);
    expect(await driver.drive(first)).toEqual(both);
    expect(driver.ca.count('newOrder')).toBe(4);
  });

  it('is told of, and the gauge shows that nothing is left, until the time of the CA', async () => {
    await open();
    const { redis, store } = driver.pipeline;
    const registry = new Registry();
    registerCaBudgetMetric(registry, createBudgetReader(driver.budget, new Map()));
    const row = 'certline_ca_budget_remaining_ratio{ca="custom",limit="orders_per_account"} 0\n';
    expect(await registry.metrics()).not.toContain(row);
    const begun = driver.clock.now();
    driver.ca.answer('newOrder', limited('too many new orders (300) from this account', 600));
    await driver.drive(await place('a.example'), 1);
    expect(await registry.metrics()).toContain(row);
    const told = (await redis.xrange(store.keys.events, '-', '+')).map(([, fields]) => JSON.parse(fields[1] ?? ''));
    const until = new Date(begun + 600_000).toISOString();
    expect(told.filter(({ on }) => on !== undefined)).toMatchObject([
      {
        ...{ type: 'account_limited', on: 'acc_1', code: 'ca_rate_limited' },
        detail: expect.stringContaining(`new orders per account for account acc_1: held until ${until.slice(0, 16)}`),
      },
    ]);
    driver.clock.advance(601_000);
    expect(await registry.metrics()).not.toContain(row);
  });

  it('holds no other order when no time is named: a proxy may have said so', async () => {
    await open();
    driver.ca.answer('newOrder', {
      status: 429,
      body: problem('rateLimited', 'slow'),
    });
    const [first, second] = [await place('a.example'), await place('b.example')];
    expect(await driver.drive(first, 1)).toEqual([expect.stringMatching(/^validation wait ca_rate_limited/)]);
    expect(await driver.drive(second)).toEqual(both);
  });

  it('holds but the orders of a domain when it is for that', async () => {
    await open();
    driver.ca.answer(
      'newOrder',
      limited('too many certificates (50) already issued for "shop.example" in the last 168h0m0s', 600),
    );
    const [first, second, other] = [
      await place('a.shop.example'),
      await place('b.shop.example'),
      await place('a.free.example'),
    ];
    await driver.drive(first, 1);
    expect(await driver.drive(second, 1)).toEqual([expect.stringMatching(/^validation wait ca_rate_limited/)]);
    expect(await driver.drive(other)).toEqual(both);
    expect(driver.ca.count('newOrder')).toBe(2);
  });
});

describe('the gauge of what is left', () => {
  it('shows the lesser of two CAs that have one label', async () => {
    await open();
    const registry = new Registry();
    const [ca, limit] = ['custom', 'orders_per_account'];
    registerCaBudgetMetric(registry, async () => [0.5, 0.2, 0.7].map((ratio) => ({ ca, limit, ratio })));
    expect(await registry.metrics()).toContain('{ca="custom",limit="orders_per_account"} 0.2\n');
  });

  it('shows the least of a limit, by CA', async () => {
    await open();
    const { redis, store } = driver.pipeline;
    const budget = createCaBudget(redis, store.keys, async () => driver.clock.now());
    const limits = caLimitTable();
    const registry = new Registry();
    registerCaBudgetMetric(registry, createBudgetReader(budget, limits));
    const [directory = ''] = limits.keys();
    await redis.takePermits(`${store.keys.caBudget(directory)}:requests`, '125', '86400000', '500');
    for (const order of ['a', 'b', 'c'])
      await budget.take(
        {
          ...{ directory, order, epoch: 1 },
          claims: claimsOf(
            { account: 'acc_1', names: [order === 'a' ? 'a.example' : `${order}.shop.example`] },
            limits.get(directory) ?? {},
            false,
          ),
        },
        stages.validation.deadline,
      );
    const text = await registry.metrics();
    const values = Object.fromEntries(
      [...text.matchAll(/\{ca="([^"]+)",limit="([^"]+)"\} (\S+)/g)].map(([, ca, limit, value]) => [
        `${ca} ${limit}`,
        Number(value),
      ]),
    );
    expect(values).toEqual({
      ...Object.fromEntries(
        [...limits.keys()].flatMap((one) =>
          requestLimits.map((limit) => [`${caLabel(one)} ${limit}`, one === directory && limit === 'requests' ? 0 : 1]),
        ),
      ),
      'letsencrypt orders_per_account': expect.closeTo(0.99, 5),
      'letsencrypt certificates_per_domain': expect.closeTo(0.96, 5),
      'letsencrypt certificates_per_name_set': expect.closeTo(0.8, 5),
      'letsencrypt failed_validations_per_name': 1,
      'letsencrypt-staging orders_per_account': 1,
      'letsencrypt-staging failed_validations_per_name': 1,
    });
  });
});
