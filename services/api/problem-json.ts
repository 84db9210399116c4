import type { ErrorRequestHandler, Response } from 'express';
import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { errorCodes } from '#libs/error-codes';
import { CertlineError, type Problem } from '#libs/errors';
import type { Logger } from '#libs/logging';
import { isRedisUnavailable } from '#libs/store/redis';

/** An error as the API tells it (RFC 9457). */
export const problemSchema = z.object({
  type: z.string().describe('`urn:certline:error:<code>`'),
  title: z.string(),
  status: z.number().int(),
  code: z.string().describe('A row of the table of error codes'),
  detail: z.string().describe('What happened, for a person'),
  advice: z.string().describe('What to do next'),
  errors: z
    .array(z.object({ path: z.string(), code: z.string(), detail: z.string() }))
    .optional()
    .describe('The fields that are wrong'),
});

/** Problems that are told of a body that does not fit its schema; whoever sends hundreds does not read them. */
const maxProblems = 20;
/** The same of fields that fit and are wrong, as the targets of a farm. */
const mostProblems = 100;

/** Field problems of a body or query that does not fit its schema. */
export function problemsOf(error: z.ZodError): Problem[] {
  const problems = error.issues.flatMap((issue) => {
    const unknown = issue.code === 'unrecognized_keys';
    const keys = unknown ? issue.keys.slice(0, maxProblems).map((key) => [key.slice(0, 100)]) : [[]];
    const missing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined');
    return keys.map((key) => ({
      path: [...issue.path, ...key]
        .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i ? '.' : ''}${String(part)}`))
        .join(''),
      code: 'request_invalid' as const,
      detail: unknown ? 'unknown field' : missing ? 'is missing' : issue.message,
    }));
  });
  // One rule of several parts says the same more than once.
  const first = problems.filter(
    (one, i) => problems.findIndex(({ path, detail }) => path === one.path && detail === one.detail) === i,
  );
  return first.slice(0, maxProblems);
}

/** The words of `JSON.parse` without the piece of the body that they quote: it might be a piece of a secret. */
function withoutQuote(words: string): string {
  return words.replace(/, (\.\.\.)?"[\s\S]*"(\.\.\.)? is not valid JSON$/, ': the body is not valid JSON');
}

/** Foreign errors as ours: the only place where the API translates. */
function translate(thrown: unknown): CertlineError {
  if (thrown instanceof CertlineError) return thrown;
  if (isRedisUnavailable(thrown)) return new CertlineError('store_unavailable', 'Redis does not answer');
  // A path that does not decode leads nowhere.
  if (thrown instanceof URIError) return new CertlineError('not_found', thrown.message);
  // Express blames the client with a status: for its body, as nothing else of a request is left to it.
  if (thrown instanceof Error && 'status' in thrown && Number(thrown.status) < 500)
    return new CertlineError(thrown.status === 413 ? 'body_too_large' : 'json_invalid', withoutQuote(thrown.message));
  return new CertlineError('unexpected', 'an error nobody foresaw; the log has the rest', { cause: thrown });
}

export function sendProblem(response: Response, error: CertlineError, now: number): void {
  const { status, title, advice } = errorCodes[error.code];
  const { code, message: detail, problems: errors, plan } = error;
  if (plan.kind === 'wait')
    response.setHeader('retry-after', String(Math.max(1, Math.ceil((plan.until - now) / 1000))));
  // RFC 9110 §15.5.2
  if (status === 401) response.setHeader('www-authenticate', 'Bearer realm="certline"');
  const body = {
    type: `urn:certline:error:${code}`,
    title,
    status,
    code,
    detail,
    advice,
    ...(errors ? { errors: errors.slice(0, mostProblems) } : {}),
  };
  response.status(status).type('application/problem+json').send(JSON.stringify(body));
}

export function problemHandler(log: Logger, clock: Clock): ErrorRequestHandler {
  return (thrown, request, response, next) => {
    const error = translate(thrown);
    if (error.code === 'unexpected')
      log.error({ err: error.cause, method: request.method, path: request.path }, 'request failed');
    if (response.headersSent) next(thrown);
    else sendProblem(response, error, clock.now());
  };
}
