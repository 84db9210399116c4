import express, { type Express, type RequestHandler } from 'express';
import { challengePath } from '#libs/challenges/http-01';

/** Characters of a token (RFC 8555 §8.1: base64url). */
const tokenForm = /^[A-Za-z0-9_-]{1,256}$/;

/** Answers http-01 challenges from the store (RFC 8555 §8.3), without authentication. */
export function challengeHandler(answerOf: (token: string) => Promise<string | null>): RequestHandler {
  return async (request, response) => {
    const token = String(request.params.token ?? '');
    const answer = tokenForm.test(token) ? await answerOf(token) : null;
    response.setHeader('cache-control', 'no-store');
    if (answer === null) response.status(404).type('text/plain').send('no such challenge\n');
    else response.status(200).type('application/octet-stream').send(answer);
  };
}

/** The plain-HTTP port: challenges and nothing else. */
export function challengeApp(answerOf: (token: string) => Promise<string | null>): Express {
  const app = express().disable('x-powered-by').disable('etag');
  app.get(`${challengePath}:token`, challengeHandler(answerOf));
  app.use((_request, response) => {
    response.status(404).type('text/plain').send('this port answers ACME challenges only\n');
  });
  app.use(((error, _request, response, _next) => {
    // A path that does not decode is nobody's token.
    if (error instanceof URIError) response.status(404).type('text/plain').send('no such challenge\n');
    else response.status(503).type('text/plain').send('the store does not answer\n');
  }) satisfies express.ErrorRequestHandler);
  return app;
}
