import express, { type Express, type RequestHandler, type Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { challengePath } from '#libs/challenges/http-check';
import { CertlineError } from '#libs/errors';
import type { ApiKey } from '#libs/model/api-key';
import type { Resources } from '#libs/service/resources';
import { authenticate } from './authenticate.ts';
import { answerChallenge } from './challenges.ts';
import { docsRouter } from './docs.ts';
import { openApiDocument } from './openapi.ts';
import { problemHandler, problemsOf, sendProblem } from './problem-json.ts';
import type { Route, RouteAnswer } from './route.ts';

const maxBody = '1mb';

/** Checks a part of the request against its schema. */
function checked(schema: Route['body'], value: unknown): unknown {
  if (!schema) return undefined;
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = problemsOf(result.error);
  const detail = problems.map(({ path, detail: words }) => `${path || 'body'}: ${words}`).join('; ');
  throw new CertlineError('request_invalid', detail, { problems });
}

async function send(response: Response, answer: RouteAnswer): Promise<void> {
  if ('stream' in answer) return answer.stream(response);
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

function mount(route: Route): RequestHandler {
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
    await send(response, answer);
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

/** The API: routes, health, metrics, documentation, challenges. */
export function createApp(
  routes: readonly Route[],
  resources: Resources,
  limits: { requestsPerMinute: number },
): Express {
  const { store, metrics, durability, log, clock } = resources;
  const app = express().disable('x-powered-by').disable('etag').set('query parser', 'simple');
  app.use(measure(resources));

  app.get('/healthz', (_request, response) => {
    response.locals.route = '/healthz';
    response.json({ status: 'ok' });
  });
  app.get('/readyz', async (_request, response) => {
    response.locals.route = '/readyz';
    await store.ping();
    response.json({ status: 'ok', redis: durability });
  });
  app.get('/metrics', async (_request, response) => {
    response.locals.route = '/metrics';
    response.type(metrics.registry.contentType).send(await metrics.registry.metrics());
  });
  app.get(`${challengePath}:token`, (request, response) => {
    response.locals.route = `${challengePath}:token`;
    return answerChallenge(store.challengeAnswers.get, request.params.token, response);
  });
  const document = openApiDocument(routes);
  app.get('/openapi.json', (_request, response) => {
    response.locals.route = '/openapi.json';
    response.json(document);
  });
  app.use(docsRouter());

  app.use(
    '/v1',
    rateLimit({
      windowMs: 60_000,
      limit: limits.requestsPerMinute,
      standardHeaders: 'draft-8',
      legacyHeaders: false,
      handler: (_request, response) =>
        sendProblem(
          response,
          new CertlineError('too_many_requests', 'too many requests from this address'),
          clock.now(),
        ),
    }),
  );
  const parse = express.json({ limit: maxBody, strict: false, type: () => true });
  for (const route of routes) {
    app[route.method](route.path, admit(route, resources), ...(route.body ? [parse] : []), mount(route));
  }
  app.use((request) => {
    throw new CertlineError('not_found', `there is no ${request.method} ${request.path}`);
  });
  app.use(problemHandler(log, clock));
  return app;
}
