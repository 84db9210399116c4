import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { errorCodes } from '#libs/error-codes';
import { type AccountRoutesDeps, accountRoutes } from '../../../services/api/accounts.ts';
import { apiKeyRoutes } from '../../../services/api/api-keys.ts';
import { type BulkRetryRoutesDeps, bulkRetryRoutes } from '../../../services/api/bulk-retries.ts';
import { type CertificateRoutesDeps, certificateRoutes } from '../../../services/api/certificates.ts';
import { type CredentialRoutesDeps, credentialRoutes } from '../../../services/api/credentials.ts';
import { type DeploymentRoutesDeps, deploymentRoutes } from '../../../services/api/deployments.ts';
import { type DriftRoutesDeps, driftRoutes } from '../../../services/api/drift.ts';
import { type EventRoutesDeps, eventRoutes } from '../../../services/api/events.ts';
import { openApiDocument } from '../../../services/api/openapi.ts';
import { type OrderRoutesDeps, orderRoutes } from '../../../services/api/orders.ts';
import type { Route } from '../../../services/api/route.ts';
import { type TargetRoutesDeps, targetRoutes } from '../../../services/api/targets.ts';
import { fakeClock } from '../../support/fake-clock.ts';

/** Dependencies of handlers that are described here, not run. */
const unused = <T>(): T => ({}) as T;

/** The factories of services/api by name: the test below holds the list complete. */
const factories: Record<string, () => Route[]> = {
  bulkRetryRoutes: () => bulkRetryRoutes({ ...unused<BulkRetryRoutesDeps>(), most: 1000 }),
  orderRoutes: () => orderRoutes(unused<OrderRoutesDeps>()),
  eventRoutes: () => eventRoutes(unused<EventRoutesDeps>()),
  certificateRoutes: () => certificateRoutes(unused<CertificateRoutesDeps>()),
  deploymentRoutes: () => deploymentRoutes(unused<DeploymentRoutesDeps>()),
  credentialRoutes: () => credentialRoutes(unused<CredentialRoutesDeps>()),
  accountRoutes: () => accountRoutes(unused<AccountRoutesDeps>()),
  driftRoutes: () => driftRoutes(unused<DriftRoutesDeps>()),
  targetRoutes: () => targetRoutes(unused<TargetRoutesDeps>()),
  apiKeyRoutes: () => apiKeyRoutes(unused<Parameters<typeof apiKeyRoutes>[0]>(), fakeClock()),
};
const routes = Object.values(factories).flatMap((make) => make());

const json = z.record(z.string(), z.unknown());
const content = z.record(z.string(), z.object({ schema: json }));
const operationSchema = z.strictObject({
  tags: z.array(z.string()).length(1),
  summary: z.string().min(1),
  description: z.string().optional(),
  operationId: z.string().regex(/^[a-zA-Z]+$/),
  security: z.array(z.record(z.string(), z.array(z.string()))),
  'x-scope': z.string().optional(),
  parameters: z.array(
    z.strictObject({
      name: z.string(),
      in: z.enum(['path', 'query', 'header']),
      required: z.boolean().optional(),
      description: z.string().optional(),
      schema: json,
    }),
  ),
  requestBody: z.strictObject({ required: z.boolean(), content }).optional(),
  responses: z.record(z.string().regex(/^[1-5]\d\d$/), z.strictObject({ description: z.string().min(1), content })),
});
const documentSchema = z.strictObject({
  openapi: z.string().regex(/^3\.1\.\d+$/),
  info: z.strictObject({ title: z.string(), version: z.string(), description: z.string() }),
  paths: z.record(
    z.string().startsWith('/'),
    z.partialRecord(z.enum(['get', 'post', 'put', 'patch', 'delete']), operationSchema),
  ),
  components: z.strictObject({ securitySchemes: json, schemas: json }),
});
// As a client gets it.
const raw: unknown = JSON.parse(JSON.stringify(openApiDocument(routes)));
const document = documentSchema.parse(raw);
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

/** Everything that a `$ref` below a value points to. */
function refsIn(value: unknown): string[] {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, inner]) => (key === '$ref' ? [String(inner)] : refsIn(inner)));
}

/** What a JSON pointer of the document leads to. */
function resolve(ref: string): unknown {
  let value: unknown = raw;
  for (const part of ref.replace(/^#\//, '').split('/')) {
    value = json.parse(value)[part.replaceAll('~1', '/').replaceAll('~0', '~')];
  }
  return value;
}

describe('the OpenAPI document', () => {
  it('has every route, and nothing else', () => {
    const expected = routes.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`);
    expect(operations.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(expected.sort());
    expect(new Set(expected).size).toBe(expected.length);
  });

  it('is made of all the routes that services/api has, and all of them are mounted', () => {
    const folder = new URL('../../../services/api/', import.meta.url);
    const source = (file: string): string => readFileSync(new URL(file, folder), 'utf8');
    const exported = readdirSync(folder)
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => [...source(file).matchAll(/export function (\w+Routes)\(/g)].map(([, name]) => name));
    expect(exported.sort()).toEqual(Object.keys(factories).sort());
    for (const name of exported) expect(source('service.ts')).toContain(`...${name}(`);
  });

  it('has only references that lead somewhere', () => {
    const refs = [...new Set(refsIn(raw))];
    expect(refs).toContain('#/components/schemas/Problem');
    expect(refs.filter((ref) => typeof resolve(ref) !== 'object')).toEqual([]);
  });

  it('gives every operation a name of its own', () => {
    const names = operations.map(({ operation }) => operation.operationId);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  it.each(operations)('describes the parameters of $method $path', ({ path, operation }) => {
    const inPath = operation.parameters.filter((one) => one.in === 'path');
    expect(inPath.map(({ name }) => name)).toEqual([...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name));
    expect(inPath.every(({ required }) => required)).toBe(true);
    const names = operation.parameters.map((one) => `${one.in} ${one.name}`);
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(operations)('tells the right that $method $path needs, and the problems it may answer', ({ operation }) => {
    expect(operation.security).toEqual([{ apiKey: [] }]);
    expect(document.components.securitySchemes).toHaveProperty('apiKey');
    for (const status of ['401', '403']) {
      expect(operation.responses[status]?.content).toHaveProperty(['application/problem+json']);
    }
    expect(Object.keys(operation.responses).some((status) => status.startsWith('2'))).toBe(true);
  });

  it('puts each error code of a route under its HTTP status', () => {
    for (const { method, path, errors = [] } of routes) {
      const operation = document.paths[path.replace(/:(\w+)/g, '{$1}')]?.[method];
      for (const code of errors) {
        expect(operation?.responses[errorCodes[code].status]?.description).toContain(`\`${code}\``);
      }
    }
  });

  it('tells that a query may be refused', () => {
    const withQuery = routes.filter(({ query }) => query);
    expect(withQuery).not.toEqual([]);
    for (const { method, path } of withQuery) {
      const operation = document.paths[path.replace(/:(\w+)/g, '{$1}')]?.[method];
      expect(operation?.responses[422]?.description).toContain('`request_invalid`');
    }
  });

  it('tells which bodies may be left out', () => {
    const required = (path: string) => document.paths[path]?.post?.requestBody?.required;
    expect(required('/v1/orders')).toBe(true);
    expect(required('/v1/orders/{id}/retry')).toBe(false);
    expect(required('/v1/orders/{id}/cancel')).toBeUndefined();
  });

  it('shows what a client may send: defaults are optional, unknown fields are refused', () => {
    const body = document.paths['/v1/orders']?.post?.requestBody?.content['application/json']?.schema;
    expect(body).toMatchObject({ type: 'object', additionalProperties: false, required: ['account'] });
  });
});
