import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scopes } from '#libs/model/api-key';
import { createApiClient } from '../../services/lab/api-client.ts';
import { type ApiSession, dumpRedis, openApiSession } from '../support/api-session.ts';
import { eventually } from '../support/lab-session.ts';
import { pendingOrder } from '../support/sample-orders.ts';

/** The scope of every operation, as the documentation promises it. */
const scopeOf: Record<string, string> = {
  'get /v1/accounts': 'orders:read',
  'get /v1/accounts/{id}': 'orders:read',
  'post /v1/accounts': 'admin',
  'delete /v1/api-keys/{id}': 'admin',
  'get /v1/api-keys': 'admin',
  'post /v1/api-keys': 'admin',
  'get /v1/certificates': 'certificates:read',
  'get /v1/certificates/{id}': 'certificates:read',
  'get /v1/certificates/{id}/chain.pem': 'certificates:read',
  'post /v1/certificates/{id}/deployments': 'orders:write',
  'post /v1/certificates/{id}/deployments/preview': 'orders:read',
  'post /v1/certificates/{id}/pfx': 'certificates:export',
  'delete /v1/credentials/{id}': 'admin',
  'get /v1/credentials': 'admin',
  'get /v1/credentials/{id}': 'admin',
  'patch /v1/credentials/{id}': 'admin',
  'post /v1/credentials': 'admin',
  'post /v1/credentials/{id}/test': 'admin',
  'put /v1/credentials/{id}/secret': 'admin',
  'get /v1/events': 'orders:read',
  'get /v1/orders': 'orders:read',
  'get /v1/orders/{id}': 'orders:read',
  'get /v1/orders/retry/{id}': 'orders:read',
  'get /v1/orders/{id}/events': 'orders:read',
  'post /v1/orders': 'orders:write',
  'post /v1/orders/retry': 'orders:write',
  'post /v1/orders/retry/{id}/cancel': 'orders:write',
  'post /v1/orders/preview': 'orders:read',
  'post /v1/orders/{id}/cancel': 'orders:write',
  'post /v1/orders/{id}/continue': 'orders:write',
  'post /v1/orders/{id}/retry': 'orders:write',
  'get /v1/targets': 'orders:read',
  'get /v1/targets/{id}': 'orders:read',
  'get /v1/targets/{id}/sites': 'orders:read',
  'get /v1/targets/{id}/drift': 'orders:read',
  'post /v1/targets/{id}/drift/repair': 'orders:write',
  'post /v1/targets/{id}/drift/accept': 'orders:write',
  'get /v1/drift': 'orders:read',
  'delete /v1/targets/{id}': 'admin',
  'patch /v1/targets/{id}': 'admin',
  'post /v1/targets': 'admin',
  'post /v1/targets/{id}/test': 'admin',
};
const operations = Object.entries(scopeOf).map(([operation, scope]) => {
  const [method = '', path = ''] = operation.split(' ');
  // A stream would not end: it is asked for in a way that it refuses.
  const asked = path === '/v1/events' ? `${path}?unknown=1` : path.replace('{id}', 'nobody');
  return { operation, scope, method: method.toUpperCase(), path: asked };
});

let session: ApiSession;
beforeAll(async () => {
  session = await openApiSession({ workers: false });
});
afterAll(() => session.close());

describe('a request to the API', () => {
  const unauthenticated = {
    type: 'urn:certline:error:unauthenticated',
    title: 'No valid API key',
    status: 401,
    code: 'unauthenticated',
    detail: expect.any(String),
    advice: expect.any(String),
  };

  it.each([
    ['no key', undefined],
    ['an unknown key', `Bearer certline_${'x'.repeat(43)}`],
    ['another scheme', 'Basic YTpi'],
    ['an empty key', 'Bearer '],
  ])('is refused with %s', async (_what, authorization) => {
    for (const { method, path } of operations) {
      const headers = authorization === undefined ? {} : { authorization };
      const answer = await fetch(session.url + path, { method, headers });
      expect(answer.status, `${method} ${path}`).toBe(401);
      expect(answer.headers.get('content-type')).toBe('application/problem+json; charset=utf-8');
      // RFC 9110 §15.5.2: a 401 says how to authenticate.
      expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="certline"');
      expect(await answer.json()).toEqual(unauthenticated);
    }
  });

  it('is refused for its key before its body is read', async () => {
    const reader = await session.clientWith('orders:read');
    const body = 'x'.repeat(1_100_000);
    expect(await reader.request('POST', '/v1/orders', body)).toMatchObject({ status: 403 });
    expect((await fetch(`${session.url}/v1/orders`, { method: 'POST', body })).status).toBe(401);
  });

  it('cannot be lost altogether: no key revokes itself', async () => {
    const { id, key } = await session.api.send('POST', '/v1/api-keys', { name: 'the last', scopes: ['admin'] });
    const client = createApiClient(session.url, String(key));
    expect(await client.request('DELETE', `/v1/api-keys/${id}`)).toMatchObject({
      status: 422,
      body: { code: 'request_invalid', errors: [{ path: 'id' }] },
    });
    expect(await client.request('GET', '/v1/orders')).toMatchObject({ status: 200 });
  });

  it('is refused with a key from the moment it is revoked', async () => {
    const { id, key } = await session.api.send('POST', '/v1/api-keys', { name: 'short-lived', scopes: ['admin'] });
    const client = createApiClient(session.url, String(key));
    expect(await client.request('GET', '/v1/orders')).toMatchObject({ status: 200 });
    expect(await session.api.send('DELETE', `/v1/api-keys/${id}`)).toMatchObject({ id, revokedAt: expect.any(String) });
    expect(await client.request('GET', '/v1/orders')).toMatchObject({ status: 401, body: unauthenticated });
    expect(await client.request('POST', '/v1/orders', {})).toMatchObject({ status: 401, body: unauthenticated });
  });

  it('needs the one scope that is documented for it, and the refusal names it', async () => {
    const document = (await (await fetch(`${session.url}/openapi.json`)).json()) as {
      paths: Record<string, Record<string, { 'x-scope': string }>>;
    };
    const documented = Object.entries(document.paths).flatMap(([path, byMethod]) =>
      Object.entries(byMethod).map(([method, operation]) => [`${method} ${path}`, operation['x-scope']]),
    );
    expect(Object.fromEntries(documented)).toEqual(scopeOf);

    for (const scope of scopes) {
      const client = await session.clientWith(scope);
      for (const { operation, scope: needed, method, path } of operations) {
        // What comes after the scope was found: there is no such record, or the body is not valid.
        const { status, body } = await client.request(method, path);
        if (scope === needed || scope === 'admin') expect([200, 404, 422], `${scope}: ${operation}`).toContain(status);
        else {
          expect({ operation, status, code: body.code }).toEqual({ operation, status: 403, code: 'scope_missing' });
          expect(body.detail).toContain(needed);
        }
      }
    }
  });

  it('is refused when its address has sent too many, and is told when to come back', async () => {
    const strict = await session.startApi({ RATE_LIMIT_PER_MINUTE: '2' });
    const client = createApiClient(strict.url, session.lab.apiKey);
    expect((await client.request('GET', '/v1/orders')).status).toBe(200);
    expect((await client.request('GET', '/v1/orders')).status).toBe(200);
    const refused = await client.request('GET', '/v1/orders');
    expect(refused).toMatchObject({ status: 429, body: { code: 'too_many_requests', status: 429 } });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await fetch(`${strict.url}/healthz`)).status).toBe(200);
  });

  it('to a path that is not there is answered in the same form', async () => {
    const { status, headers, body } = await session.api.request('GET', '/v1/nothing');
    expect({ status, code: body.code, type: headers.get('content-type') }).toEqual({
      ...{ status: 404, code: 'not_found', type: 'application/problem+json; charset=utf-8' },
    });
    expect(await session.api.request('GET', '/v1/orders/%E0%A4%A')).toMatchObject({
      status: 400,
      body: { code: 'request_malformed' },
    });
  });
});

describe('without a key', () => {
  it('health, readiness, metrics and documentation are open', async () => {
    const read = async (path: string) => fetch(session.url + path);
    expect(await (await read('/healthz')).json()).toEqual({ status: 'ok' });
    expect(await (await read('/readyz')).json()).toEqual({
      status: 'ok',
      redis: {
        ...{ durable: true, appendonly: 'yes', appendfsync: 'always', maxmemoryPolicy: 'noeviction' },
        warnings: [],
      },
    });
    expect(await (await read('/metrics')).text()).toContain('# TYPE certline_http_requests_total counter');
    expect(await (await read('/openapi.json')).json()).toMatchObject({ openapi: '3.1.0' });
  });

  it('the documentation is a page that loads nothing from elsewhere', async () => {
    const page = await fetch(`${session.url}/docs`);
    expect(page.headers.get('content-type')).toBe('text/html; charset=utf-8');
    const policy = page.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/https?:|\*|script-src[^;]*unsafe/);
    const links = Array.from((await page.text()).matchAll(/(?:src|href)="([^"]+)"/g), ([, link = '']) => link);
    expect(links.length).toBeGreaterThanOrEqual(3);
    for (const link of links) {
      const url = new URL(link, `${session.url}/docs`);
      expect(url.origin).toBe(session.url);
      const asset = await fetch(url);
      expect(asset.status, link).toBe(200);
      expect(asset.headers.get('content-type')).toMatch(link.endsWith('.css') ? /^text\/css/ : /^text\/javascript/);
    }
  });

  it.each([
    ['Range', 'bytes=99999999-', 200],
    ['If-Match', '"x"', 400],
    ['If-Unmodified-Since', 'Thu, 01 Jan 1970 00:00:00 GMT', 400],
  ])('a file of the documentation that does not fit %s is no error of ours', async (header, value, status) => {
    const answer = await fetch(`${session.url}/docs/assets/swagger-ui.css`, { headers: { [header]: value } });
    expect(answer.status).toBe(status);
  });

  it('answers to challenges are served on both ports, and only while they are there', async () => {
    const token = 'LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0';
    const { order } = await session.store.orders.place(pendingOrder({ id: 'ord_access' }));
    const answer = { keyAuthorization: `${token}.thumbprint`, expires: Date.now() + 60_000 };
    const presented = [
      { type: 'http-01' as const, via: 'responder' as const, name: 'a.example.com', token, ...answer },
    ];
    await session.store.orders.save(order, { ...order, presented }, []);
    for (const [origin, undecodable] of [
      [session.url, 400],
      [session.challengeUrl, 404],
    ] as const) {
      const url = `${origin}/.well-known/acme-challenge/`;
      const answer = await fetch(url + token);
      expect(answer.status).toBe(200);
      expect(await answer.text()).toBe(`${token}.thumbprint`);
      for (const other of ['unknown', '..%2f..%2fhealthz', '*', `${token}/x`, '%00']) {
        expect((await fetch(url + other)).status, other).toBe(404);
      }
      expect((await fetch(`${url}%E0%A4%A`)).status).toBe(undecodable);
    }
  });

  it('the challenge port answers nothing else, not even to a key', async () => {
    const authorization = `Bearer ${session.lab.apiKey}`;
    const paths = ['/', '/healthz', '/readyz', '/metrics', '/openapi.json', '/docs', '/docs/start.js'];
    for (const path of [...paths, ...operations.map((one) => one.path)]) {
      const answer = await fetch(session.challengeUrl + path, { headers: { authorization } });
      expect({ path, status: answer.status }).toEqual({ path, status: 404 });
      expect(await answer.text()).toBe('this port answers ACME challenges only\n');
    }
    const post = await fetch(`${session.challengeUrl}/.well-known/acme-challenge/x`, { method: 'POST', body: 'x' });
    expect({ status: post.status, allow: post.headers.get('allow') }).toEqual({ status: 405, allow: 'GET, HEAD' });
  });
});

describe('an API key', () => {
  it('is shown once and kept as a hash only', async () => {
    const made = await session.api.send('POST', '/v1/api-keys', { name: 'kept', scopes: ['orders:read'] });
    const key = String(made.key);
    expect(key).toMatch(/^certline_[\w-]{43}$/);
    const { items } = await session.api.send('GET', '/v1/api-keys');
    const listed = (items as Record<string, unknown>[]).find(({ id }) => id === made.id);
    expect(listed).toEqual({ ...made, key: undefined });
    const everything = [...(await dumpRedis(session.redis))].flat().join('\n');
    expect(everything).toContain(createHash('sha256').update(key).digest('hex'));
    expect(everything).not.toContain(key);
    expect(everything).not.toContain(key.slice('certline_'.length));
    expect(everything).not.toContain(session.lab.apiKey);
  });

  it.each([
    ['no name', { scopes: ['admin'] }, 'name'],
    ['no scopes', { name: 'x', scopes: [] }, 'scopes'],
    ['an unknown scope', { name: 'x', scopes: ['root'] }, 'scopes[0]'],
    ['a field that is not there', { name: 'x', scopes: ['admin'], key: 'mine' }, 'key'],
  ])('is not made with %s', async (_what, body, path) => {
    const answer = await session.api.request('POST', '/v1/api-keys', body);
    expect(answer).toMatchObject({ status: 422, body: { code: 'request_invalid', errors: [{ path }] } });
  });

  it('is made at the first start when none is given, and printed that once', async () => {
    const ports = { API_PORT: '0', CHALLENGE_PORT: '0' };
    const settings = { ...ports, BOOTSTRAP_API_KEY: '', NAMESPACE: 'empty', LOG_LEVEL: 'info' };
    const printed = /^First API key, shown only now: (\S+)$/m;
    const logOf = (n: number) => readFile(join(session.lab.dir, `api-${n}.log`), 'utf8');

    const first = await session.lab.startService('api', settings);
    const key = await eventually('the key is printed', 5_000, async () => printed.exec(await logOf(1))?.[1]);
    const url = /"url":"([^"]+)"/.exec(await logOf(1))?.[1] ?? '';
    const client = createApiClient(url, key);
    const { body } = await client.request('GET', '/v1/api-keys');
    expect(body.items).toMatchObject([{ name: 'bootstrap', scopes: ['admin'] }]);
    await first.stop('SIGTERM', 10_000);
    expect((await logOf(1)).split(key)).toHaveLength(2);

    const second = await session.lab.startService('api', settings);
    await second.stop('SIGTERM', 10_000);
    expect(await logOf(2)).not.toMatch(/certline_|First API key/);
  });
});
