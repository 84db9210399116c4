import type { Clock } from '../clock.ts';
import { CertlineError, type ErrorCode } from '../errors.ts';
import { readRetryAfter } from '../retry-after.ts';

const timeoutMs = 30_000;
/** A page of zones or records is far below. */
const longestBody = 8 * 1024 * 1024;
/** What of an answer is told to a person. */
const longestWords = 300;

export interface ApiRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Absolute, or below the API's address. */
  path: string;
  headers?: Record<string, string>;
  /** Sent as it is when it is a string, as JSON otherwise. */
  body?: string | object;
  /** What besides 2xx is an answer and no error: statuses, or a look at the answer. */
  accept?: readonly number[] | ((answer: ApiAnswer) => boolean);
}

export interface ApiAnswer {
  status: number;
  headers: Headers;
  text: string;
  /** The parsed body; undefined when it is empty or no JSON. */
  json: unknown;
}

/** What an answer means that is no success, as far as its status does not say it. */
export interface ApiProblem {
  code?: ErrorCode;
  /** For a person, instead of the start of the body. */
  words?: string;
  /** When to ask again, in ms since the epoch, where it is not in Retry-After. */
  notBefore?: number;
}

/** The API of a DNS provider over HTTPS. */
export interface HttpApi {
  /** Throws `CertlineError`: 401 and 403 `dns_credential_refused`, 429 `dns_provider_busy`, no answer and 5xx `dns_provider_unreachable`, else `dns_provider_refused`. */
  send(request: ApiRequest, signal: AbortSignal): Promise<ApiAnswer>;
}

/** How a request gets to a server and its answer back. */
export type Transport = (
  request: { method: ApiRequest['method']; url: URL; headers: Record<string, string>; body: string | undefined },
  signal: AbortSignal,
) => Promise<Omit<ApiAnswer, 'json'>>;

export interface HttpApiOptions {
  /** For people: `Cloudflare`. */
  title: string;
  baseUrl: string;
  clock: Clock;
  /** Headers of every request: made anew for each, since a signature covers the rest of it. Must not hold what may be shown. */
  authorize?: (request: ApiRequest & { url: URL }, signal: AbortSignal) => Promise<Record<string, string>>;
  /** Reads the errors of a provider that says more, or something else, than its statuses do. */
  read?: (answer: ApiAnswer) => ApiProblem | undefined;
  /** `fetch` unless given. What it throws as a `CertlineError` stays as it is. */
  transport?: Transport;
  /** The path is as good as a password: errors leave it out. */
  hidePath?: boolean;
}

function codeOf(status: number): ErrorCode {
  if (status === 401 || status === 403) return 'dns_credential_refused';
  if (status === 429) return 'dns_provider_busy';
  return status >= 500 ? 'dns_provider_unreachable' : 'dns_provider_refused';
}

function parsed(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function readBody(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.byteLength;
    if (size > longestBody) throw new Error(`the answer is longer than ${longestBody} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

const byFetch: Transport = async ({ url, body, ...request }, signal) => {
  const response = await fetch(url, {
    ...{ ...request, redirect: 'manual' as const, signal },
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, headers: response.headers, text: await readBody(response) };
};

/** One way to talk to all HTTP APIs of providers: timeouts, limits and the translation of errors. No redirect is followed. */
export function createHttpApi(options: HttpApiOptions): HttpApi {
  const { title, baseUrl, clock, authorize, read, transport = byFetch, hidePath = false } = options;
  return {
    async send(request, signal) {
      const { method, body, accept = [] } = request;
      const url = new URL(request.path, baseUrl);
      const path = hidePath ? '' : url.pathname;
      const own = authorize ? await authorize({ ...request, url }, signal) : {};
      const isJson = body !== undefined && typeof body !== 'string';
      const headers = { ...(isJson ? { 'content-type': 'application/json' } : {}), ...request.headers, ...own };
      const limit = AbortSignal.timeout(timeoutMs);
      let answer: ApiAnswer;
      try {
        const text = isJson ? JSON.stringify(body) : body;
        const got = await transport({ method, url, headers, body: text }, AbortSignal.any([signal, limit]));
        answer = { ...got, json: parsed(got.text) };
      } catch (thrown) {
        signal.throwIfAborted();
        if (thrown instanceof CertlineError) throw thrown;
        const cause = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown;
        const why = limit.aborted ? `no answer in ${timeoutMs / 1000} s` : String((cause as Error).message ?? cause);
        throw new CertlineError('dns_provider_unreachable', `${title}: ${method} ${url.origin}${path}: ${why}`, {
          cause: thrown,
        });
      }
      const { status, text } = answer;
      const accepted = typeof accept === 'function' ? accept : () => accept.includes(status);
      if ((status >= 200 && status < 300) || accepted(answer)) return answer;
      const problem = read?.(answer) ?? {};
      const code = problem.code ?? codeOf(status);
      const words = (problem.words ?? text).slice(0, longestWords);
      const again =
        code === 'dns_provider_busy' || code === 'dns_provider_unreachable'
          ? (readRetryAfter(Object.fromEntries(answer.headers), clock.now()) ?? problem.notBefore)
          : undefined;
      throw new CertlineError(
        code,
        `${title}: ${method} ${path === '' ? url.origin : path}: ${status} ${words}`.trim(),
        {
          ...(again === undefined ? {} : { plan: { kind: 'retryable', notBefore: again } }),
          evidence: { status },
        },
      );
    },
  };
}
