import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { errorCodes } from '#libs/error-codes';
import type { LabHost } from '../../services/lab/lab.ts';
import { freePort } from '../../services/lab/running-program.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { addSite } from '../support/lab-sites.ts';

type Json = Record<string, unknown>;
type Operation = { responses: Record<string, { content?: Record<string, { schema: Json }> }> };
type Document = { paths: Record<string, Record<string, Operation>>; components: { schemas: { Problem: Json } } };

/** What the API promises about itself: its OpenAPI document and its metrics, after one order went all the way. */
let session: ApiSession;
let host: LabHost;
let document: Document;
let order: Json;
let ids: Json & {
  account: string;
  target: string;
  order: string;
  certificate: string;
  key: string;
  credential: string;
  spare: string;
  away: string;
};
const names = ['contract.example.com', 'other-name.example.com'];

beforeAll(async () => {
  session = await openApiSession({ workers: true });
  document = (await (await fetch(`${session.url}/openapi.json`)).json()) as Document;
  host = await session.lab.startHost('web01');
  await addSite(
    host.url,
    1,
    names.map((name) => `*:80:${name}`),
  );
  const account = await session.account({ allowInternalNames: true });
  const transport = { kind: 'lab', url: host.url };
  const target = await session.api.send('POST', '/v1/targets', { name: 'web01', kind: 'iis', transport });
  const key = await session.api.send('POST', '/v1/api-keys', { name: 'contract', scopes: ['orders:read'] });
  const id = await session.order({ account, source: { target: target.id, site: 1 } });
  order = await session.until(id, 'deployed', ({ status }) => status === 'deployed');
  const failed = await session.order({ account, names: ['blocked-domain.example'] });
  await session.until(failed, 'failed', ({ status }) => status === 'failed');
  const certificate = String(order.certificate);
  const login = { name: 'web', kind: 'ssh', username: 'svc', password: 'a long password' };
  const credential = await session.api.send('POST', '/v1/credentials', login);
  const local = { name: 'spare', kind: 'iis', transport: { kind: 'local' }, pool: 'spare' };
  // Nothing is deployed a second time: this one is never reached.
  const unreachable = {
    name: 'away',
    kind: 'iis',
    transport: { kind: 'lab', url: `http://127.0.0.1:${await freePort()}` },
  };
  const away = String((await session.api.send('POST', '/v1/targets', unreachable)).id);
  const spare = String((await session.api.send('POST', '/v1/targets', local)).id);
  ids = {
    account,
    target: String(target.id),
    order: id,
    failed,
    certificate,
    key: String(key.id),
    credential: String(credential.id),
    spare,
    away,
  };
});
afterAll(() => session?.close());

/** The schema that the document has for an answer. */
function schemaOf(method: string, path: string, status: number): z.ZodType {
  const content = document.paths[path]?.[method]?.responses[status]?.content ?? {};
  const schema = Object.values(content)[0]?.schema;
  if (!schema) throw new Error(`${method} ${path} ${status} is not documented`);
  const isProblem = JSON.stringify(schema).includes('#/components/schemas/Problem');
  return z.fromJSONSchema(isProblem ? document.components.schemas.Problem : schema);
}

describe('the OpenAPI document', () => {
  const windows = [{ days: ['sat'], from: '22:00', to: '04:00', timeZone: 'Europe/Berlin' }];
  const deploy = () => ({ mode: 'auto', target: ids.target });
  const onCertificate = (what: string) => `/v1/certificates/${ids.certificate}/${what}`;

  it('has no route that is not there', async () => {
    const operations = Object.entries(document.paths).flatMap(([path, byMethod]) =>
      Object.keys(byMethod).map((method) => ({ method: method.toUpperCase(), path })),
    );
    expect(operations.length).toBeGreaterThanOrEqual(30);
    for (const { method, path } of operations) {
      // A stream would not end: it is asked for in a way that it refuses.
      const asked = path === '/v1/events' ? `${path}?unknown=1` : path.replace('{id}', 'nobody');
      const { status, body } = await session.api.request(method, asked);
      expect(status, `${method} ${path}`).not.toBe(500);
      expect(String(body.detail), `${method} ${path}`).not.toMatch(/^there is no (GET|POST|PUT|PATCH|DELETE) /);
    }
  });

  it('names every operation once', () => {
    const operations = Object.values(document.paths).flatMap((byMethod) => Object.values(byMethod));
    const operationIds = operations.map((operation) => (operation as unknown as { operationId: string }).operationId);
    expect(new Set(operationIds).size).toBe(operationIds.length);
  });

  it.each([
    ['get', '/v1/orders', () => '/v1/orders'],
    ['get', '/v1/orders/{id}', () => `/v1/orders/${ids.order}`],
    ['get', '/v1/orders/{id}', () => `/v1/orders/${ids.failed}`],
    ['get', '/v1/accounts', () => '/v1/accounts'],
    ['get', '/v1/accounts/{id}', () => `/v1/accounts/${ids.account}`],
    ['get', '/v1/targets', () => '/v1/targets'],
    ['get', '/v1/targets/{id}', () => `/v1/targets/${ids.target}`],
    ['get', '/v1/targets/{id}/sites', () => `/v1/targets/${ids.target}/sites`],
    ['get', '/v1/certificates', () => '/v1/certificates'],
    ['get', '/v1/certificates/{id}', () => `/v1/certificates/${ids.certificate}`],
    ['get', '/v1/api-keys', () => '/v1/api-keys'],
    ['post', '/v1/targets/{id}/test', () => `/v1/targets/${ids.target}/test`],
    ['patch', '/v1/targets/{id}', () => `/v1/targets/${ids.spare}`, { transport: { kind: 'ssh', host: 'web02' } }, 422],
    ['patch', '/v1/targets/{id}', () => `/v1/targets/${ids.spare}`, { windows, name: 'other' }],
    ['delete', '/v1/targets/{id}', () => `/v1/targets/${ids.spare}`],
    ['get', '/v1/credentials', () => '/v1/credentials'],
    ['get', '/v1/credentials/{id}', () => `/v1/credentials/${ids.credential}`],
    ['put', '/v1/credentials/{id}/secret', () => `/v1/credentials/${ids.credential}/secret`, { password: 'x' }],
    ['delete', '/v1/credentials/{id}', () => `/v1/credentials/${ids.credential}`],
    [
      'post',
      '/v1/orders/preview',
      () => '/v1/orders/preview',
      () => ({ account: ids.account, names, deploy: deploy() }),
    ],
    [
      'post',
      '/v1/certificates/{id}/deployments/preview',
      () => onCertificate('deployments/preview'),
      () => ({ deploy: deploy() }),
    ],
    [
      'post',
      '/v1/certificates/{id}/deployments/preview',
      () => onCertificate('deployments/preview'),
      () => ({ deploy: { mode: 'auto', targets: [ids.target, { target: ids.away }], waves: [1, 'rest'] } }),
    ],
    [
      'post',
      '/v1/certificates/{id}/deployments',
      () => onCertificate('deployments'),
      () => ({ deploy: { mode: 'auto', target: ids.away } }),
      202,
    ],
    [
      'post',
      '/v1/certificates/{id}/deployments',
      () => onCertificate('deployments'),
      () => ({ deploy: { mode: 'auto', targets: [ids.away], waves: ['rest'] } }),
      202,
    ],
    [
      'post',
      '/v1/certificates/{id}/deployments',
      () => onCertificate('deployments'),
      () => ({ deploy: { ...deploy(), planHash: 'a'.repeat(64) } }),
      409,
    ],
    ['get', '/v1/orders/{id}', () => '/v1/orders/nobody', undefined, 404],
    ['post', '/v1/orders', () => '/v1/orders', { names: ['x'], account: 'x' }, 422],
    ['post', '/v1/orders/{id}/cancel', () => `/v1/orders/${ids.order}/cancel`, undefined, 409],
    ['post', '/v1/orders/{id}/retry', () => `/v1/orders/${ids.failed}/retry`, {}, 202],
    ['delete', '/v1/api-keys/{id}', () => `/v1/api-keys/${ids.key}`],
    ['post', '/v1/api-keys', () => '/v1/api-keys', { name: 'x', scopes: ['orders:read'] }, 201],
  ])('describes what %s %s answers', async (method, path, url, body?: unknown, status = 200) => {
    const answer = await session.api.request(method.toUpperCase(), url(), typeof body === 'function' ? body() : body);
    expect(answer.status).toBe(status);
    expect(schemaOf(method, path, status).safeParse(answer.body).error?.issues).toBeUndefined();
    const problem = document.components.schemas.Problem;
    if (status >= 400) expect(answer.body.code).toBeOneOf(Object.keys(errorCodes));
    else expect(z.fromJSONSchema(problem).safeParse(answer.body).success).toBe(false);
  });

  it('describes the events', async () => {
    const schema = schemaOf('get', '/v1/orders/{id}/events', 200);
    let count = 0;
    for await (const { data } of session.api.events(ids.order)) {
      count += 1;
      expect(schema.safeParse(data).error?.issues).toBeUndefined();
    }
    expect(count).toBeGreaterThan(5);
  });
});

describe('the metrics', () => {
  /** Of design §8, those that the services of this installation have. */
  const expected: Record<string, { type: string; labels: string[] }> = {
    stage_attempts_total: { type: 'counter', labels: ['code', 'outcome', 'stage'] },
    stage_duration_seconds: { type: 'histogram', labels: ['outcome', 'stage'] },
    stage_wait_seconds: { type: 'histogram', labels: ['stage'] },
    queue_jobs: { type: 'gauge', labels: ['queue', 'state'] },
    queue_oldest_job_age_seconds: { type: 'gauge', labels: ['queue'] },
    orders: { type: 'gauge', labels: ['status'] },
    order_duration_seconds: { type: 'histogram', labels: ['outcome'] },
    certificates_expiring: { type: 'gauge', labels: ['within'] },
    certificate_min_expiry_seconds: { type: 'gauge', labels: [] },
    renewals_overdue: { type: 'gauge', labels: [] },
    acme_requests_total: { type: 'counter', labels: ['ca', 'operation', 'status'] },
    acme_request_duration_seconds: { type: 'histogram', labels: ['ca', 'operation'] },
    deployments_total: { type: 'counter', labels: ['code', 'kind', 'outcome'] },
    http_requests_total: { type: 'counter', labels: ['method', 'route', 'status'] },
    http_request_duration_seconds: { type: 'histogram', labels: ['method', 'route'] },
    last_success_timestamp_seconds: { type: 'gauge', labels: ['stage'] },
  };

  it.each(Object.entries(expected))('serve %s with its help, type and labels', async (name, { type, labels }) => {
    const text = await session.metrics();
    expect(text).toMatch(new RegExp(`^# HELP certline_${name} \\S.*\\.$`, 'm'));
    expect(text).toContain(`# TYPE certline_${name} ${type}\n`);
    const samples = text.match(new RegExp(`^certline_${name}(_bucket|_sum|_count)?(\\{.*\\})? \\S+$`, 'gm')) ?? [];
    expect(samples.length).toBeGreaterThan(0);
    for (const sample of samples) {
      const found = Array.from(sample.matchAll(/(\w+)="/g), ([, label]) => label);
      expect(found.filter((label) => label !== 'service' && label !== 'le').sort()).toEqual(labels);
    }
  });

  it('are of Node too, in base units and under one prefix', async () => {
    const text = await session.metrics();
    const families = Array.from(text.matchAll(/^# TYPE (\S+) /gm), ([, name = '']) => name);
    expect(families.filter((name) => !name.startsWith('certline_'))).toEqual([]);
    expect(families).toContain('certline_process_resident_memory_bytes');
    expect(families.filter((name) => /_(ms|milliseconds|kilobytes|percent)$/.test(name))).toEqual([]);
  });

  it('name no domain, no id and no path that was asked for', async () => {
    for (const path of [
      '/v1/made-up-path',
      '/wp-login.php',
      `/v1/orders/${ids.order}/nothing`,
      '/docs/assets/nothing',
    ]) {
      await fetch(session.url + path);
    }
    const headers = { authorization: `Bearer ${session.lab.apiKey}`, 'content-type': 'application/json' };
    await fetch(`${session.url}/v1/orders`, { method: 'POST', body: '{', headers });
    const labels = (await session.metrics()).split('\n').filter((line) => line && !line.startsWith('#'));
    for (const line of labels) {
      expect(line).not.toMatch(/example|(ord|acc|tgt|crt|key)_[0-9A-Z]{6}|made-up|wp-login|127\.0\.0\.1|https?:/);
    }
    // Every route label is a route.
    const routes = new Set(labels.flatMap((line) => /route="([^"]*)"/.exec(line)?.[1] ?? []));
    const known = Object.keys(document.paths).map((path) => path.replace(/\{(\w+)\}/g, ':$1'));
    const open = ['/healthz', '/readyz', '/metrics', '/openapi.json', '/.well-known/acme-challenge/:token', 'other'];
    expect([...routes].filter((route) => !known.includes(route) && !open.includes(route))).toEqual([]);
    expect(routes).toContain('/v1/orders/:id');
    // A request whose body cannot be read is still one to its route.
    expect(labels.join('\n')).toMatch(
      /http_requests_total\{[^}]*route="\/v1\/orders",method="POST",status="400"[^}]*\} 1/,
    );
  });

  it('count what happened', async () => {
    const text = await session.metrics();
    const value = (name: string, ...labels: string[]) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`certline_${name}{`) && labels.every((label) => line.includes(label)))
          ?.split(' ')
          .at(-1),
      );
    for (const stage of ['validation', 'issuance', 'deployment']) {
      expect(value('stage_attempts_total', `stage="${stage}"`, 'outcome="completed"', 'code="none"')).toBe(1);
      expect(value('last_success_timestamp_seconds', `stage="${stage}"`)).toBeGreaterThan(Date.now() / 1000 - 120);
    }
    expect(value('stage_attempts_total', 'outcome="failed"', 'code="identifier_rejected"')).toBeGreaterThanOrEqual(1);
    expect(value('orders', 'status="deployed"')).toBe(1);
    expect(value('deployments_total', 'kind="iis"', 'outcome="completed"')).toBe(1);
    expect(value('acme_requests_total', 'ca="custom"', 'operation="finalize"', 'status="200"')).toBe(1);
    expect(value('order_duration_seconds_count', 'outcome="complete"')).toBe(1);
  });
});
