import { problem, type ScriptedAnswer, type UsualAnswer } from './scripted-ca.ts';

/**
 * The words of a fault plan: what a scripted CA does with the next requests of an operation, one after the other.
 *
 *     ca.answer('newOrder', refusal('rateLimited', { retryAfter: '60' }), page(503), 'lost', usualWith({ body: { … } }));
 */

/** The status that RFC 8555 and Let's Encrypt give a problem; 400 for those that are not here. */
const statusOf: Record<string, number> = {
  ...{ alreadyReplaced: 409, autoRenewalCanceled: 403, caa: 403, externalAccountRequired: 403, onionCAARequired: 403 },
  ...{ orderNotReady: 403, rateLimited: 429, serverInternal: 500, unauthorized: 403, userActionRequired: 403 },
};

export interface RefusalOptions {
  status?: number;
  /** The CA's words; it names the type unless given. */
  detail?: string;
  /** The header as it is sent: seconds, an HTTP-date, or what is neither. */
  retryAfter?: string;
  headers?: Record<string, string>;
  /** Further members of the problem: `subproblems`, `instance`, `algorithms`. */
  members?: object;
}

/** A problem document (RFC 8555 §6.7) of this type. */
export function refusal(type: string, options: RefusalOptions = {}): UsualAnswer {
  const { status = statusOf[type] ?? 400, detail = `the CA says ${type}`, retryAfter, headers, members } = options;
  const later: Record<string, string> = retryAfter === undefined ? {} : { 'retry-after': retryAfter };
  return {
    status,
    headers: { 'content-type': 'application/problem+json', ...later, ...headers },
    body: problem(type, detail, members),
  };
}

/** The part of a problem that is about a name (§6.7.1). */
export const part = (type: string, name: string): object => ({
  ...problem(type, `${type} for ${name}`),
  identifier: { type: 'dns', value: name },
});

/** A problem of several parts. */
export const compound = (...subproblems: object[]): UsualAnswer => refusal('compound', { members: { subproblems } });

/** What a proxy or load balancer says in the CA's place. */
export const page = (status: number, retryAfter?: string): UsualAnswer => ({
  status,
  headers: { 'content-type': 'text/html', ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }) },
  body: `<html><h1>the proxy says ${status}</h1></html>`,
});

export const redirect = (location: string): UsualAnswer => ({ status: 302, headers: { location }, body: '' });

/** Does what it is asked, and changes its usual answer: other headers beside those it has, other members or another body. */
export const usualWith =
  ({ headers = {}, body }: { headers?: Record<string, string>; body?: object | string }): ScriptedAnswer =>
  (usual) => ({
    ...{ status: usual.status, headers: { ...usual.headers, ...headers } },
    body:
      typeof body === 'object' && typeof usual.body === 'object' ? { ...usual.body, ...body } : (body ?? usual.body),
  });

export const times = (count: number, answer: ScriptedAnswer): ScriptedAnswer[] =>
  Array.from({ length: count }, () => answer);

/** The words of Let's Encrypt's limits (Boulder, ratelimits/limiter.go), each with the time of the end in them. */
export const letsEncryptLimits = {
  orders: 'too many new orders (300) from this account in the last 3h0m0s',
  domain: (domain: string) => `too many certificates (50) already issued for "${domain}" in the last 168h0m0s`,
  nameSet: 'too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s',
  failures: (name: string) => `too many failed authorizations (5) for "${name}" in the last 1h0m0s`,
};

/** As Boulder ends them: `…, retry after 2026-11-24 03:00:00 UTC: see …`. */
export function limitUntil(words: string, until: number): string {
  const time = new Date(until).toISOString().slice(0, 19).replace('T', ' ');
  return `${words}, retry after ${time} UTC: see https://letsencrypt.org/docs/rate-limits/`;
}
