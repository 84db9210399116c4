import { type ServerResponse, STATUS_CODES } from 'node:http';
import type { ErrorRequestHandler } from 'express';
import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { errorCodes } from '#libs/error-codes';
import { CertlineError, type Problem } from '#libs/errors';
import type { Logger } from '#libs/logging';
import { redisTrouble } from '#libs/store/redis-trouble';

/** Seconds after which it is worth while to try again what nobody knows the time of. */
const soon = '5';
const problemType = 'application/problem+json; charset=utf-8';

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

/** The path of a field for a person: `deploy.targets[1].site`. */
export function pathText(path: readonly PropertyKey[]): string {
  return path.map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i ? '.' : ''}${String(part)}`)).join('');
}

/** Field problems of a body or query that does not fit its schema. */
export function problemsOf(error: z.ZodError): Problem[] {
  // A list of thousands has as many issues.
  const problems = error.issues.slice(0, mostProblems).flatMap((issue) => {
    const unknown = issue.code === 'unrecognized_keys';
    const keys = unknown ? issue.keys.slice(0, maxProblems).map((key) => [key.slice(0, 100)]) : [[]];
    const missing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined');
    return keys.map((key) => ({
      path: pathText([...issue.path, ...key]),
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

/** What Express' static files refuse: a precondition that is not met. */
function isRefusal(thrown: unknown): thrown is Error {
  const status = thrown instanceof Error && 'statusCode' in thrown ? Number(thrown.statusCode) : 0;
  return status >= 400 && status < 500;
}

/** Foreign errors as ours: the only place where the API translates. */
function translate(thrown: unknown): CertlineError {
  if (thrown instanceof CertlineError) return thrown;
  if (thrown instanceof URIError) return new CertlineError('request_malformed', 'the path does not decode as UTF-8');
  const trouble = redisTrouble(thrown);
  if (trouble) return trouble;
  if (isRefusal(thrown))
    return new CertlineError('request_malformed', `the headers of the request do not fit: ${thrown.message}`);
  return new CertlineError('unexpected', 'an error nobody foresaw; the log has the rest', { cause: thrown });
}

/** An error as the body of an answer (RFC 9457). */
export function problemOf(error: CertlineError): z.output<typeof problemSchema> {
  const { status, title, advice } = errorCodes[error.code];
  const { code, message: detail, problems: errors } = error;
  return {
    type: `urn:certline:error:${code}`,
    title,
    status,
    code,
    detail,
    advice,
    ...(errors ? { errors: errors.slice(0, mostProblems) } : {}),
  };
}

/** Answers with an error; what of the headers was set before stays. `now`: ms since the epoch. */
export function sendProblem(response: ServerResponse, error: CertlineError, now: number): void {
  const { plan } = error;
  const problem = problemOf(error);
  const text = JSON.stringify(problem);
  if (plan.kind === 'wait')
    response.setHeader('retry-after', String(Math.max(1, Math.ceil((plan.until - now) / 1000))));
  else if ((problem.status === 429 || problem.status === 503) && !response.hasHeader('retry-after'))
    response.setHeader('retry-after', soon);
  // RFC 9110 §15.5.2
  if (problem.status === 401) response.setHeader('www-authenticate', 'Bearer realm="certline"');
  response
    .writeHead(problem.status, { 'content-type': problemType, 'content-length': Buffer.byteLength(text) })
    .end(text);
}

/** An error as the last answer of a connection whose request could not be read. */
export function rawProblem(error: CertlineError): string {
  const problem = problemOf(error);
  const text = JSON.stringify(problem);
  const head = [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    'connection: close',
    `content-type: ${problemType}`,
    `content-length: ${Buffer.byteLength(text)}`,
  ];
  return `${head.join('\r\n')}\r\n\r\n${text}`;
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
