import express, { type Express, type Request, type RequestHandler, type Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { challengePath } from '#libs/challenges/http-check';
import { CertlineError } from '#libs/errors';
import type { ApiKey } from '#libs/model/api-key';
import type { Resources } from '#libs/service/resources';
import { authenticate } from './authenticate.ts';
import { answerChallenge } from './challenges.ts';
import { docsPaths, docsRouter } from './docs.ts';
import { createStreamLimit, type StreamLimit } from './event-stream.ts';
import { openApiDocument } from './openapi.ts';
import { problemHandler, problemsOf, sendProblem } from './problem-json.ts';
import { bodyReader } from './read-body.ts';
import type { Route, RouteAnswer } from './route.ts';

export interface AppLimits {
  requestsPerMinute: number;
  /** Whose `X-Forwarded-For` is believed: addresses and networks. */
  trustedProxies: string[];
  streamsPerKey: number;
}

/** What a browser may do with answers that are no pages. */
const nothing = "default-src 'none'; frame-ancestors 'none'";

/** Checks a part of the request against its schema. */
function checked(schema: Route['body'], value: unknown): unknown {
  if (!schema) return undefined;
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = problemsOf(result.error);
  const detail = problems.map(({ path, detail: words }) => `${path || 'body'}: ${words}`).join('; ');
  throw new CertlineError('request_invalid', detail, { problems });
}

async function send(request: Request, response: Response, answer: RouteAnswer, streams: StreamLimit): Promise<void> {
  if ('stream' in answer) {
    // Without its body a stream has an end.
    if (request.method === 'HEAD') response.writeHead(200, { 'content-type': 'text/event-stream' }).end();
    else await streams.within((response.locals.key as ApiKey | null)?.id ?? '', () => answer.stream(response));
    return;
  }
  response.status(answer.status).set(answer.headers ?? {});
  if ('json' in answer) response.json(answer.json);
  else response.type(answer.type).send(answer.content);
}

/** Who asks, before anything is done for it: a body is read for keys with the scope only. */
function admit(route: Route, { store }: Resources): RequestHandler {
  return async (request, response, next) => {
    response.locals.route = route.path;
    const { authorization } = request.headers;
    response.locals.key = route.scope === null ? null : await authenticate(store.apiKeys, authorization, route.scope);
    next();
  };
}

function mount(route: Route, streams: StreamLimit): RequestHandler {
  return async (request, response) => {
    const gone = new AbortController();
    response.on('close', () => gone.abort(new Error('the client has gone')));
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
    );
    const answer = await route.handle({
      params: request.params as Record<string, string>,
      query: checked(route.query, request.query) as never,
      body: checked(route.body, request.body) as never,
      headers,
      key: response.locals.key as ApiKey | null,
      signal: gone.signal,
    });
    await send(request, response, answer, streams);
  };
}

function measure({ metrics, clock }: Resources): RequestHandler {
  return (request, response, next) => {
    const start = clock.now();
    response.on('finish', () => {
      const route = typeof response.locals.route === 'string' ? response.locals.route : 'other';
      const { method } = request;
      metrics.httpRequests.inc({ route, method, status: String(response.statusCode) });
      metrics.httpRequestDuration.observe({ route, method }, (clock.now() - start) / 1000);
    });
    next();
  };
}

/** Answers the methods that a path does not have, with those that it has (RFC 9110 §9.3.7 and §15.5.6). */
function otherMethods(methods: readonly string[]): RequestHandler {
  const upper = methods.map((method) => method.toUpperCase());
  const known = new Set([...upper, ...(upper.includes('GET') ? ['HEAD'] : [])]);
  const allow = [...known, 'OPTIONS'].join(', ');
  return ({ method, path }, response, next) => {
    if (known.has(method)) return next();
    response.set('allow', allow);
    if (method !== 'OPTIONS') throw new CertlineError('method_not_allowed', `${path} knows ${allow}, not ${method}`);
    response.status(204).end();
  };
}

/** The paths that anybody may read. */
function openPaths(routes: readonly Route[], resources: Resources): Record<string, RequestHandler<{ token: string }>> {
  const { store, metrics, durability, ready } = resources;
  const document = openApiDocument(routes);
  return {
    '/healthz': (_request, response) => void response.json({ status: 'ok' }),
    async '/readyz'(_request, response) {
      await ready();
      response.json({ status: 'ok', redis: durability });
    },
    async '/metrics'(_request, response) {
      response.type(metrics.registry.contentType).send(await metrics.registry.metrics());
    },
    [`${challengePath}:token`]: (request, response) =>
      answerChallenge(store.challengeAnswers.get, request.params.token, response),
    '/openapi.json': (_request, response) => void response.json(document),
  };
}

/** The API: routes, health, metrics, documentation, challenges. */
export function createApp(routes: readonly Route[], resources: Resources, limits: AppLimits): Express {
  const { log, clock } = resources;
  const app = express().disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.set('trust proxy', limits.trustedProxies);
  app.use(measure(resources), (_request, response, next) => {
    response.set({ 'x-content-type-options': 'nosniff', 'content-security-policy': nothing });
    next();
  });
  const open = openPaths(routes, resources);
  for (const [path, handler] of Object.entries(open)) {
    const name: RequestHandler<{ token: string }> = (_request, response, next) => {
      response.locals.route = path;
      next();
    };
    app.get(path, name, handler);
  }
  for (const path of [...Object.keys(open), ...docsPaths]) app.all(path, otherMethods(['GET']));
  app.use(docsRouter());

  app.use(
    '/v1',
    rateLimit({
      windowMs: 60_000,
      limit: limits.requestsPerMinute,
      standardHeaders: 'draft-8',
      legacyHeaders: false,
      // Anybody may send these headers; whom they are believed from is a setting.
      validate: { xForwardedForHeader: false, forwardedHeader: false },
      handler: (_request, response) =>
        sendProblem(
          response,
          new CertlineError('too_many_requests', 'too many requests from this address'),
          clock.now(),
        ),
    }),
    ({ headers }, response, next) => {
      // What is kept nowhere is compared with nothing: Express would answer 304 to a `*`.
      delete headers['if-none-match'];
      response.set('cache-control', 'no-store');
      next();
    },
  );
  const streams = createStreamLimit(limits.streamsPerKey);
  for (const route of routes) {
    const read = route.body ? [bodyReader(route.bodyLimit)] : [];
    app[route.method](route.path, admit(route, resources), ...read, mount(route, streams));
  }
  for (const [path, ofPath] of Map.groupBy(routes, (route) => route.path))
    app.all(path, otherMethods(ofPath.map(({ method }) => method)));
  app.use((request) => {
    throw new CertlineError('not_found', `there is no ${request.method} ${request.path}`);
  });
  app.use(problemHandler(log, clock));
  return app;
}
