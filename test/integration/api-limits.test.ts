import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import { cancelled, failed, orderError, retried } from '#libs/model/transitions';
import { createApiClient } from '../../services/lab/api-client.ts';
import { type ApiSession, dumpRedis, fieldsOf, openApiSession } from '../support/api-session.ts';
import { openRaw, sendRaw } from '../support/raw-http.ts';
import { pendingOrder } from '../support/sample-orders.ts';

/** What the API refuses for its size, its number or its form. No worker runs. */
let session: ApiSession;
let account: string;

beforeAll(async () => {
  session = await openApiSession({ workers: false, env: { RATE_LIMIT_PER_MINUTE: '1000000' } });
  account = await session.account();
});
afterAll(() => session?.close());

const order = (name: string) => ({ account, names: [name] });
const authorized = () => `Authorization: Bearer ${session.lab.apiKey}\r\n`;
const end = 'Host: x\r\nConnection: close\r\n\r\n';

describe('a body', () => {
  it('without a Content-Type is taken for JSON', async () => {
    const body = JSON.stringify(order('untyped.example.com'));
    const text = `POST /v1/orders HTTP/1.1\r\n${authorized()}Content-Length: ${body.length}\r\n${end}${body}`;
    expect(await sendRaw(session.url, text)).toMatchObject([{ status: 202 }]);
  });

  it('that is announced as too large is refused before any of it is there, with the limit', async () => {
    const connection = await openRaw(session.url);
    connection.send(`POST /v1/orders HTTP/1.1\r\nHost: x\r\n${authorized()}Content-Length: 1048577\r\n\r\n`);
    const [answer] = await connection.answers(1);
    connection.socket.destroy();
    expect(answer?.status).toBe(413);
    expect(JSON.parse(answer?.body ?? '')).toMatchObject({
      code: 'body_too_large',
      detail: 'a body may have 1048576 bytes here',
    });
  });

  it('that turns out to be too large is refused before all of it is there', async () => {
    const connection = await openRaw(session.url);
    connection.send(`POST /v1/orders HTTP/1.1\r\nHost: x\r\n${authorized()}Transfer-Encoding: chunked\r\n\r\n`);
    connection.send(`200000\r\n${' '.repeat(0x200000)}`);
    expect((await connection.answers(1))[0]?.status).toBe(413);
    connection.socket.destroy();
  });

  it('may be larger where a report of thousands of places is sent back', async () => {
    const places = Array.from({ length: 10_000 }, (_, i) => `${'x'.repeat(120)}${i}`);
    const answer = await session.api.request('POST', '/v1/targets/nobody/drift/accept', { places });
    expect(answer).toMatchObject({ status: 404, body: { code: 'not_found' } });
  });

  it('is asked for only from whom it is taken', async () => {
    const post = (headers: string) => `POST /v1/orders HTTP/1.1\r\n${headers}Expect: 100-continue\r\n`;
    const stranger = await openRaw(session.url);
    stranger.send(`${post('')}Content-Length: 2\r\nHost: x\r\n\r\n`);
    expect(await stranger.answers(1)).toMatchObject([{ status: 401 }]);
    stranger.socket.destroy();
    const known = await openRaw(session.url);
    known.send(`${post(authorized())}Content-Length: 2\r\n${end}`);
    expect(await known.answers(1)).toMatchObject([{ status: 100 }]);
    known.send('{}');
    expect(await known.closed()).toMatchObject([{ status: 100 }, { status: 422 }]);
  });

  it('with thousands of wrong items is refused with the first of them', async () => {
    const places = Array.from({ length: 10_000 }, () => 1);
    const answer = await session.api.request('POST', '/v1/targets/nobody/drift/accept', { places });
    expect(answer).toMatchObject({ status: 422, body: { code: 'request_invalid' } });
    expect(fieldsOf(answer)).toEqual(Array.from({ length: 20 }, (_, i) => `places[${i}] request_invalid`));
  });
});

describe('a method', () => {
  it.each([
    ['PUT', '/v1/orders', 'POST, GET, HEAD, OPTIONS'],
    ['DELETE', '/v1/orders/ord_1', 'GET, HEAD, OPTIONS'],
    ['GET', '/v1/orders/ord_1/cancel', 'POST, OPTIONS'],
    ['TRACE', '/healthz', 'GET, HEAD, OPTIONS'],
    ['POST', '/docs', 'GET, HEAD, OPTIONS'],
  ])('%s that %s does not know is refused, with those that it knows', async (method, path, allow) => {
    const [answer] = await sendRaw(session.url, `${method} ${path} HTTP/1.1\r\n${end}`);
    expect(answer).toMatchObject({
      status: 405,
      headers: { allow, 'content-type': expect.stringContaining('problem') },
    });
    expect(JSON.parse(answer?.body ?? '')).toMatchObject({ code: 'method_not_allowed' });
    expect(await sendRaw(session.url, `OPTIONS ${path} HTTP/1.1\r\n${end}`)).toMatchObject([
      { status: 204, headers: { allow }, body: '' },
    ]);
  });

  it('HEAD answers as GET without the body, also where that would be a stream without an end', async () => {
    const json = 'application/json; charset=utf-8';
    for (const [path, status, type] of [
      ['/healthz', 200, json],
      ['/v1/orders', 200, json],
      ['/v1/events', 200, 'text/event-stream'],
      ['/v1/nothing', 404, 'application/problem+json; charset=utf-8'],
    ] as const) {
      const [answer] = await sendRaw(session.url, `HEAD ${path} HTTP/1.1\r\n${authorized()}${end}`);
      expect(answer).toMatchObject({ status, body: '', headers: { 'content-type': type } });
    }
  });
});
const bearer = () => `Bearer ${session.lab.apiKey}`;

describe('every answer', () => {
  it.each(['/v1/orders', '/v1/nothing', '/healthz', '/docs', '/docs/start.js', '/openapi.json'])(
    'of %s tells a browser to make nothing of it that it is not',
    async (path) => {
      const { headers } = await fetch(session.url + path, { headers: { authorization: bearer() } });
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('content-security-policy')).toContain("default-src 'none'");
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('cache-control')).toBe(path.startsWith('/v1') ? 'no-store' : null);
    },
  );
});

describe('an API key', () => {
  it('has as many unfinished orders as it may, whichever process it asks, until some of them have ended', async () => {
    const env = { MAX_OPEN_ORDERS_PER_KEY: '3', RATE_LIMIT_PER_MINUTE: '1000000' };
    const urls = [(await session.startApi(env)).url, (await session.startApi(env)).url];
    const { key } = await session.api.send('POST', '/v1/api-keys', { name: 'robot', scopes: ['orders:write'] });
    const clients = urls.map((url) => createApiClient(url, String(key)));
    const place = (i: number) => clients[i % 2]?.request('POST', '/v1/orders', order(`open-${i}.example.com`));
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => place(i)));
    const taken = answers.filter((answer) => answer?.status === 202);
    expect(taken).toHaveLength(3);
    const refused = answers.filter((answer) => answer?.status !== 202);
    for (const answer of refused) expect(answer).toMatchObject({ status: 429, body: { code: 'too_many_open_orders' } });
    expect(Number(refused[0]?.headers.get('retry-after'))).toBeGreaterThan(0);

    // Another key has its own, and none of the three is lost.
    expect(
      await createApiClient(urls[0] ?? '', session.lab.apiKey).request(
        'POST',
        '/v1/orders',
        order('other.example.com'),
      ),
    ).toMatchObject({ status: 202 });
    // Whoever ends it, in whatever process.
    const first = await session.store.orders.get(String(taken[0]?.body.id));
    if (first?.status !== 'pending') throw new Error('it is not there as it was placed');
    await session.store.orders.save(first, cancelled(first, Date.now()), []);
    const again = await Promise.all([place(30), place(31)]);
    expect(again.map((answer) => answer?.status).sort()).toEqual([202, 429]);
  });

  it('has what is retried among its orders again, also beyond the limit, and not the parts of a rollout', async () => {
    const { orders } = session.store;
    const limit = { key: 'key_retrying', most: 1 };
    const sample = (id: string) => pendingOrder({ id });
    const { order: first } = await orders.place(sample('ord_limit_1'), undefined, limit);
    await expect(orders.place(sample('ord_limit_2'), undefined, limit)).rejects.toMatchObject({
      code: 'too_many_open_orders',
    });
    if (first.status !== 'pending') throw new Error('it is not there as it was placed');
    const refused = new CertlineError('caa_forbids', 'not here');
    const failure = await orders.save(
      first,
      failed(first, 'validation', orderError(refused, 'validation', Date.now()), Date.now()),
      [],
    );
    const { order: second } = await orders.place(sample('ord_limit_3'), undefined, limit);
    if (failure === null) throw new Error('not saved');
    await orders.save(failure, retried(failure, 'validation', Date.now()), []);
    expect(await session.redis.smembers(session.store.keys.ordersPlacedBy(limit.key))).toHaveLength(2);
    await orders.place({ ...second, id: 'ord_limit_part', partOf: second.id });
    expect(await session.redis.smembers(session.store.keys.ordersPlacedBy(limit.key))).toHaveLength(2);
  });

  it('gets the order of an Idempotency-Key however many it has, and stores nothing with one that is refused', async () => {
    const { url } = await session.startApi({ MAX_OPEN_ORDERS_PER_KEY: '1' });
    const { key } = await session.api.send('POST', '/v1/api-keys', { name: 'careful', scopes: ['orders:write'] });
    const client = createApiClient(url, String(key));
    const place = (name: string) => client.request('POST', '/v1/orders', order(name), { 'idempotency-key': name });
    const twenty = await Promise.all(Array.from({ length: 20 }, () => place('once.example.com')));
    expect(new Set(twenty.map(({ status, body }) => `${status} ${body.id}`)).size).toBe(1);
    expect(twenty[0]?.status).toBe(202);
    const before = await dumpRedis(session.redis);
    expect(await place('second.example.com')).toMatchObject({ status: 429, body: { code: 'too_many_open_orders' } });
    expect(await dumpRedis(session.redis)).toEqual(before);
    await client.send('POST', `/v1/orders/${twenty[0]?.body.id}/cancel`);
    expect(await place('second.example.com')).toMatchObject({ status: 202 });
  });

  it('without a limit costs an order nothing: nothing is kept of who placed it', async () => {
    const { body } = await session.api.request('POST', '/v1/orders', order('unlimited.example.com'));
    expect(await session.store.orders.get(String(body.id))).not.toHaveProperty('placedBy');
    expect(await session.redis.keys('*placed-by*none*')).toEqual([]);
  });

  it('follows as many event streams as it may, and another one when it has closed one', async () => {
    const { url } = await session.startApi({ MAX_EVENT_STREAMS_PER_KEY: '2' });
    const follow = (gone = new AbortController()) => {
      const answer = fetch(`${url}/v1/events`, { headers: { authorization: bearer() }, signal: gone.signal });
      return { answer, gone };
    };
    const open = [follow(), follow()];
    for (const { answer } of open) expect((await answer).status).toBe(200);
    const refused = await follow().answer;
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({ code: 'too_many_event_streams' });
    open[0]?.gone.abort();
    // The server hears of it a moment later.
    for (;;) {
      const next = follow();
      const { status } = await next.answer;
      next.gone.abort();
      if (status === 200) break;
    }
    open[1]?.gone.abort();
  });
});

describe('the address that requests are counted for', () => {
  const ask = (url: string, client: string) =>
    fetch(`${url}/v1/orders`, { headers: { authorization: bearer(), 'x-forwarded-for': client } });

  it('is what a trusted proxy says', async () => {
    const { url } = await session.startApi({ RATE_LIMIT_PER_MINUTE: '1', TRUSTED_PROXIES: '127.0.0.1' });
    expect((await ask(url, '192.0.2.1')).status).toBe(200);
    expect((await ask(url, '192.0.2.2')).status).toBe(200);
    expect((await ask(url, '192.0.2.1')).status).toBe(429);
  });

  it('is not what anybody else says', async () => {
    const { url } = await session.startApi({ RATE_LIMIT_PER_MINUTE: '1' });
    expect((await ask(url, '192.0.2.1')).status).toBe(200);
    expect((await ask(url, '192.0.2.2')).status).toBe(429);
  });
});

describe('a thousand bad requests', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;

  /** Bytes in use when all that nobody holds is gone. */
  async function inUse(): Promise<number> {
    for (let i = 0; i < 3; i += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      collect();
    }
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  }

  const post = (body: string, more = '') =>
    `POST /v1/orders HTTP/1.1\r\n${authorized()}${more}Content-Length: ${Buffer.byteLength(body)}\r\n${end}${body}`;
  const bad = (): string[] => [
    `GET /v1/${'x'.repeat(20_000)} HTTP/1.1\r\n${end}`,
    `GET /v1/orders/%ff HTTP/1.1\r\n${end}`,
    `GET /v1/orders HTTP/1.1\r\n${'a: b\r\n'.repeat(500)}${end}`,
    `BREW /v1/orders HTTP/1.1\r\n${end}`,
    `GET /v1/orders HTTP/1.1\r\nAuthorization: Bearer ${'y'.repeat(1_000)}\r\n${end}`,
    post('{"names":'),
    post('['.repeat(10_000)),
    post(`{"names":["${'x'.repeat(10_000)}"],"more":1}`),
    post('{}', 'Content-Type: text/plain\r\n'),
    post('\x1f\x8b', 'Content-Encoding: gzip\r\n'),
    `POST /v1/orders HTTP/1.1\r\n${authorized()}Content-Length: 99999999999\r\n${end}`,
    `POST /v1/orders HTTP/1.1\r\n${authorized()}Transfer-Encoding: chunked\r\n${end}zz`,
  ];

  it('leave nothing behind, in memory or in Redis', async () => {
    const before = await dumpRedis(session.redis);
    const round = async (times: number) => {
      for (let i = 0; i < times; i += 1) {
        const answers = await Promise.all(
          bad().map(async (text) => {
            const connection = await openRaw(session.url);
            connection.send(text);
            const [answer] = await connection.answers(1);
            connection.socket.destroy();
            return answer?.status ?? 0;
          }),
        );
        expect(answers.filter((status) => status < 400 || status >= 500)).toEqual([]);
      }
    };
    await round(10);
    const first = await inUse();
    await round(80);
    expect((await inUse()) - first).toBeLessThan(2 << 20);
    expect(await dumpRedis(session.redis)).toEqual(before);
  }, 120_000);
});
