import { z } from 'zod';
import { type ErrorCode, errorCodes } from '#libs/error-codes';
import { problemSchema } from './problem-json.ts';
import type { Route } from './route.ts';

type Json = Record<string, unknown>;

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    target: 'draft-2020-12',
  });
  return rest;
}

function parametersOf({ path, query, headers }: Route): Json[] {
  const inPath = [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  const { properties = {}, required = [] } = query
    ? (schemaOf(query, 'input') as { properties?: Record<string, Json>; required?: string[] })
    : {};
  const inQuery = Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema,
  }));
  const inHeader = Object.entries(headers ?? {}).map(([name, description]) => ({
    name,
    in: 'header',
    description,
    schema: { type: 'string' },
  }));
  return [...inPath, ...inQuery, ...inHeader];
}

/** What every route may answer, every route with a body, and every route with a query. */
const everywhere: ErrorCode[] = [
  ...(['unauthenticated', 'scope_missing', 'too_many_requests', 'too_many_connections', 'store_unavailable'] as const),
  ...(['request_malformed', 'headers_too_large', 'request_timeout', 'unexpected'] as const),
];
const ofBodies: ErrorCode[] = ['json_invalid', 'content_type_unsupported', 'body_too_large', 'request_invalid'];
const ofQueries: ErrorCode[] = ['request_invalid'];

function operationOf(route: Route): Json {
  const answers = Object.entries(route.answers).map(([status, { description, schema, type = 'application/json' }]) => {
    const content = { [type]: { schema: schema ? schemaOf(schema, 'output') : { type: 'string', format: 'binary' } } };
    return [status, { description, content }];
  });
  const byStatus = Map.groupBy(
    new Set([
      ...everywhere,
      ...(route.body ? ofBodies : []),
      ...(route.query ? ofQueries : []),
      ...(route.errors ?? []),
    ]),
    (code) => errorCodes[code].status,
  );
  const problems = [...byStatus].map(([status, codes]) => [
    String(status),
    {
      description: codes.map((code) => `\`${code}\`: ${errorCodes[code].title}`).join('; '),
      content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
    },
  ]);
  return {
    tags: [route.tag],
    summary: route.summary,
    ...(route.description ? { description: route.description } : {}),
    operationId: `${route.method} ${route.path}`.replace(
      /[^a-zA-Z]+(.)?/g,
      (_all, next: string | undefined) => next?.toUpperCase() ?? '',
    ),
    ...(route.scope ? { security: [{ apiKey: [] }], 'x-scope': route.scope } : { security: [] }),
    parameters: parametersOf(route),
    ...(route.body
      ? {
          requestBody: {
            required: !route.body.safeParse(undefined).success,
            content: { 'application/json': { schema: schemaOf(route.body, 'input') } },
          },
        }
      : {}),
    responses: Object.fromEntries([...(route.scope ? problems : []), ...answers]),
  };
}

/** The OpenAPI 3.1 document of the routes, made from the schemas that check the requests. */
export function openApiDocument(routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method]: operationOf(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'certline',
      version: '1',
      description: 'TLS certificates from ACME authorities, put to use on IIS.',
    },
    paths,
    components: {
      securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: 'An API key' } },
      schemas: { Problem: schemaOf(problemSchema, 'output') },
    },
  };
}
