import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiSession, anyTime, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';

/** Placing orders. No worker runs: what the API answers and stores is all that happens. */
let session: ApiSession;
let account: string;

const named = (...names: string[]) => ({ account, names });
const place = (body: unknown, headers?: Record<string, string>) =>
  session.api.request('POST', '/v1/orders', body, headers);
const countOrders = () => session.redis.zcard('{certline}:orders');

beforeAll(async () => {
  session = await openApiSession({ workers: false });
  account = await session.account();
});
afterAll(() => session?.close());

describe('an order', () => {
  it('is taken with 202, its address and everything that is known of it', async () => {
    const { status, headers, body } = await place(named('WWW.Example.com', 'bücher.example.com', 'www.example.com.'));
    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`/v1/orders/${body.id}`);
    const names = ['www.example.com', 'xn--bcher-kva.example.com'];
    expect(body).toEqual({
      id: expect.stringMatching(/^ord_[0-9A-Z]{26}$/),
      status: 'pending',
      complete: false,
      stage: 'validation',
      epoch: 1,
      names,
      account,
      challenge: { type: 'http-01', via: 'responder' },
      challenges: [],
      key: { type: 'rsa-2048' },
      profile: null,
      preferredChain: null,
      replaces: null,
      source: null,
      deploy: { mode: 'none' },
      deployments: [],
      partOf: null,
      identifiers: names.map((name) => ({ name, status: 'pending' })),
      attempts: { validation: 0, issuance: 0, deployment: 0 },
      error: null,
      nextAttemptAt: null,
      next: 'Due: the next validation worker takes it.',
      parkedOn: null,
      records: [],
      certificate: null,
      createdAt: expect.stringMatching(anyTime),
      updatedAt: body.createdAt,
    });
    expect(await session.api.send('GET', `/v1/orders/${body.id}`)).toEqual(body);
    expect(await session.redis.hget(`{certline}:validation:${body.id}.validation.1`, 'data')).toBe(
      JSON.stringify({ order: body.id }),
    );
  });

  it('keeps what was asked for', async () => {
    const more = { key: { type: 'ec-p384' }, profile: 'shortlived', preferredChain: 'Some Root' };
    expect(await place({ ...named('more.example.com'), ...more })).toMatchObject({ status: 202, body: more });
  });

  it('that is not there is 404', async () => {
    const missing = { status: 404, body: { code: 'not_found', detail: 'there is no order ord_0' } };
    expect(await session.api.request('GET', '/v1/orders/ord_0')).toMatchObject(missing);
    expect(await session.api.request('POST', '/v1/orders/ord_0/cancel')).toMatchObject(missing);
    expect(await session.api.request('POST', '/v1/orders/ord_0/retry')).toMatchObject(missing);
    expect(await session.api.request('GET', '/v1/orders/ord_0/events')).toMatchObject(missing);
  });
});

describe('an order is refused, nothing is stored and the CA is not asked', () => {
  const hundred = Array.from({ length: 100 }, (_, i) => `n${i}.example.com`);
  const good = 'good.example.com';
  const site = { mode: 'site', site: 1 };

  it.each([
    ['no names', { names: [] }, 'request_invalid', ['names request_invalid']],
    ['neither names nor a source', { names: undefined }, 'names_missing', ['names names_missing']],
    ['a single label', { names: [good, 'SRVDEVAPP01'] }, 'name_not_public', ['names[1] name_not_public']],
    ['a reserved suffix', { names: ['intra.local'] }, 'name_not_public', ['names[0] name_not_public']],
    ['a public suffix', { names: [good, 'co.uk'] }, 'name_is_public_suffix', ['names[1] name_is_public_suffix']],
    [
      'an address',
      { names: ['10.0.0.7', '::1'] },
      'name_is_ip_address',
      ['names[0] name_is_ip_address', 'names[1] name_is_ip_address'],
    ],
    ['what is no host name', { names: ['a b.example.com'] }, 'name_invalid', ['names[0] name_invalid']],
    ['a wildcard', { names: ['*.example.com'] }, 'wildcard_needs_dns_01', ['names[0] wildcard_needs_dns_01']],
    ['101 names', { names: [...hundred, good] }, 'too_many_names', ['names too_many_names']],
    ['a name that is a number', { names: [good, 7] }, 'request_invalid', ['names[1] request_invalid']],
    ['a name as long as a book', { names: ['a'.repeat(301)] }, 'request_invalid', ['names[0] request_invalid']],
    [
      'every name that is wrong',
      { names: ['co.uk', good, 'x.local'] },
      'name_is_public_suffix',
      ['names[0] name_is_public_suffix', 'names[2] name_not_public'],
    ],
    ['an unknown account', { account: 'acc_0' }, 'account_unknown', ['account account_unknown']],
    ['no account', { account: undefined }, 'request_invalid', ['account request_invalid']],
    ['an unknown target', { deploy: { ...site, target: 'tgt_0' } }, 'target_unknown', ['deploy.target target_unknown']],
    ['a deployment to nowhere', { deploy: site }, 'request_invalid', ['deploy.target request_invalid']],
    ['a site that is no id', { deploy: { site: 'x' } }, 'request_invalid', ['deploy.site request_invalid']],
    ['a port that is none', { deploy: { port: 70_000 } }, 'request_invalid', ['deploy.port request_invalid']],
    [
      'an unknown challenge',
      { challenge: { type: 'dns-99' } },
      'challenge_unsupported',
      ['challenge.type challenge_unsupported'],
    ],
    ['an unknown key type', { key: { type: 'rsa-1024' } }, 'request_invalid', ['key.type request_invalid']],
    [
      'fields that are not there',
      { domains: [], deploy: { mod: 'x' } },
      'request_invalid',
      ['deploy.mod request_invalid', 'domains request_invalid'],
    ],
  ])('with %s', async (_what, wrong, code, fields) => {
    const [before, asked] = [await dumpRedis(session.redis), await session.caRequests()];
    const answer = await place({ ...named(good), ...wrong }, { 'idempotency-key': 'refused' });
    expect({ status: answer.status, code: answer.body.code }).toEqual({ status: 422, code });
    expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(fieldsOf(answer)).toEqual(fields);
    expect(await dumpRedis(session.redis)).toEqual(before);
    expect(await session.caRequests()).toBe(asked);
  });

  const text = 'text/plain;charset=UTF-8';
  const wrongType = 'content_type_unsupported';
  it.each([
    ['that is no JSON', '{"names":', 'application/json', {}, 400, 'json_invalid'],
    ['that is a form', 'names=good.example.com', 'application/x-www-form-urlencoded', {}, 415, wrongType],
    ['that is text', 'good.example.com', text, {}, 415, wrongType],
    ['that is of no type at all', '{}', 'json', {}, 415, wrongType],
    ['that is empty', '', 'application/json', {}, 422, 'request_invalid'],
    ['that is null', 'null', 'application/json', {}, 422, 'request_invalid'],
    ['that is a list', '[]', 'application/json', {}, 422, 'request_invalid'],
    ['in a charset that nobody knows', '{}', 'application/json; charset=x', {}, 415, wrongType],
    [
      'that is not the UTF-8 it is said to be',
      Buffer.from('"\xff"', 'latin1'),
      'application/json',
      {},
      400,
      'json_invalid',
    ],
    ['in an encoding that nobody knows', '{}', 'application/json', { 'content-encoding': 'x' }, 415, wrongType],
    ['that is compressed', gzipSync('{}'), 'application/json', { 'content-encoding': 'gzip' }, 415, wrongType],
    ['that is too large', `"${'x'.repeat(1_100_000)}"`, 'application/json', {}, 413, 'body_too_large'],
  ])('with a body %s', async (_what, body, type, more, status, code) => {
    const before = await dumpRedis(session.redis);
    const headers = { authorization: `Bearer ${session.lab.apiKey}`, 'content-type': type, ...more };
    const answer = await fetch(`${session.url}/v1/orders`, { method: 'POST', body, headers });
    expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
    expect(await answer.json()).toMatchObject({ status, code });
    expect(answer.status).toBe(status);
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('but 100 names are not too many', async () => {
    expect(await place(named(...hundred))).toMatchObject({ status: 202, body: { names: hundred } });
  });
});

describe('an Idempotency-Key', () => {
  it('with the same body answers the same order as it is now', async () => {
    const before = await countOrders();
    const body = { ...named('once.example.com'), key: { type: 'ec-p256' } };
    const first = await place(body, { 'idempotency-key': 'once' });
    const { names, ...rest } = body;
    const again = await place({ ...rest, names }, { 'idempotency-key': 'once' });
    expect(again).toMatchObject({ status: 202, body: first.body });
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    await session.api.send('POST', `/v1/orders/${first.body.id}/cancel`);
    expect(await place(body, { 'idempotency-key': 'once' })).toMatchObject({
      status: 202,
      body: { id: first.body.id, status: 'cancelled' },
    });
    expect(await countOrders()).toBe(before + 1);
  });

  it('makes one order of twenty requests at once', async () => {
    const before = await countOrders();
    const body = named('twenty.example.com');
    const twenty = Array.from({ length: 20 }, () => place(body, { 'idempotency-key': 'twenty' }));
    const answers = await Promise.all(twenty);
    expect(new Set(answers.map((answer) => `${answer.status} ${answer.body.id}`)).size).toBe(1);
    expect(answers[0]?.status).toBe(202);
    expect(await countOrders()).toBe(before + 1);
    const { items } = await session.api.send('GET', '/v1/orders?name=twenty.example.com');
    expect(items).toHaveLength(1);
    expect(await session.redis.keys('{certline}:order:*')).toHaveLength(await countOrders());
  });

  it('with another body is refused, and stores nothing', async () => {
    const { body } = await place(named('mine.example.com'), { 'idempotency-key': 'reused' });
    const before = await dumpRedis(session.redis);
    const answer = await place(named('other.example.com'), { 'idempotency-key': 'reused' });
    expect(answer).toMatchObject({
      status: 422,
      body: { code: 'idempotency_key_reused', detail: expect.stringContaining(String(body.id)) },
    });
    expect(await dumpRedis(session.redis)).toEqual(before);
  });

  it('belongs to the API key it came with', async () => {
    const body = named('scoped.example.com');
    const mine = await place(body, { 'idempotency-key': 'scoped' });
    const other = await session.clientWith('orders:write');
    const theirs = await other.request('POST', '/v1/orders', body, { 'idempotency-key': 'scoped' });
    expect(theirs.status).toBe(202);
    expect(theirs.body.id).not.toBe(mine.body.id);
  });

  it.each([
    ['empty', ''],
    ['longer than 255 characters', 'x'.repeat(256)],
  ])('that is %s is refused', async (_what, key) => {
    const before = await countOrders();
    expect(await place(named('bad-key.example.com'), { 'idempotency-key': key })).toMatchObject({
      status: 422,
      body: { code: 'request_invalid', errors: [{ path: 'Idempotency-Key' }] },
    });
    expect(await countOrders()).toBe(before);
  });

  it('answers the order even when the account it was placed with is gone', async () => {
    const body = { account: await session.account({ email: 'gone@example.com' }), names: ['gone.example.com'] };
    const first = await place(body, { 'idempotency-key': 'gone' });
    await session.redis.del(session.store.keys.account(body.account));
    expect(await place(body, { 'idempotency-key': 'gone' })).toMatchObject({
      status: 202,
      body: { id: first.body.id },
    });
  });
});

describe('the list of orders', () => {
  type Page = { items: { id: string; names: string[]; status: string }[]; cursor: string | null };
  const page = async (query: string) => (await session.api.send('GET', `/v1/orders?${query}`)) as unknown as Page;
  async function walk(query: string, betweenPages = async () => {}): Promise<string[]> {
    const ids: string[] = [];
    for (let cursor: string | null = ''; cursor !== null && ids.length < 500; ) {
      const { items, cursor: next }: Page = await page(`${query}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      ids.push(...items.map(({ id }) => id));
      cursor = next;
      await betweenPages();
    }
    return ids;
  }

  it('has every order once, newest first, while others are placed', async () => {
    const placed = Array.from({ length: 25 }, () => session.order(named('walk.example.com')));
    const ids = await Promise.all(placed);
    const meanwhile = async () => {
      await session.order(named('walk.example.com'));
    };
    for (const limit of [1, 4, 25]) {
      const before = (await walk('limit=200')).length;
      const seen = await walk(`limit=${limit}`, meanwhile);
      expect(seen).toHaveLength(before);
      expect(new Set(seen).size).toBe(before);
      expect(seen).toEqual(expect.arrayContaining(ids));
    }
    const { items } = await page('limit=200');
    const times = items.map((item) => Date.parse(String((item as unknown as { createdAt: string }).createdAt)));
    expect(times).toEqual(times.toSorted((a, b) => b - a));
  });

  it('is narrowed by status and by name, however the name is written', async () => {
    const first = await session.order(named('a.list.example.com', 'b.list.example.com'));
    const other = await session.order(named('b.list.example.com'));
    await session.api.send('POST', `/v1/orders/${other}/cancel`);
    expect(await walk('name=a.list.example.com')).toEqual([first]);
    expect(await walk('name=B.LIST.example.com.')).toEqual([other, first]);
    expect(await walk('name=b.list.example.com&status=cancelled&limit=1')).toEqual([other]);
    expect(await walk('name=b.list.example.com&status=pending&limit=1')).toEqual([first]);
    expect(await walk('name=nobody.example.com')).toEqual([]);
    expect(await walk('status=cancelled&limit=200')).toContain(other);
    expect(await walk('status=pending&limit=200')).not.toContain(other);
    expect(await walk('status=deployed')).toEqual([]);
  });

  it.each(['limit=0', 'limit=201', 'limit=x', 'status=lost', 'cursor=x'])('is refused with %s', async (query) => {
    expect(await session.api.request('GET', `/v1/orders?${query}`)).toMatchObject({
      status: 422,
      body: { code: 'request_invalid', errors: [{ path: query.split('=')[0] }] },
    });
  });
});
