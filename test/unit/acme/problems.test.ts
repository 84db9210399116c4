import { describe, expect, test } from 'vitest';
import type { AcmeCall } from '#libs/acme/operations';
import { acmeError, knownProblemTypes } from '#libs/acme/problems';
import type { ErrorCode, Plan } from '#libs/errors';

const now = Date.UTC(2026, 10, 23, 12);
const hour = 3_600_000;
const urn = 'urn:ietf:params:acme:error:';

interface Answer {
  status: number;
  type?: string;
  headers?: Record<string, string>;
  body?: string;
  [member: string]: unknown;
}

function errorOf(operation: AcmeCall['operation'], answer: Answer, call: Partial<AcmeCall> = {}) {
  const { status, headers = {}, body, type, ...members } = answer;
  const document = { type: type === undefined ? undefined : urn + type, detail: 'no', status, ...members };
  return acmeError(
    { status, headers, body: body ?? JSON.stringify(document) },
    { operation, url: 'https://ca.example/x', ...call },
    now,
  );
}

const permanent: Plan = { kind: 'permanent' };
const park: Plan = { kind: 'park' };
const restart: Plan = { kind: 'restart' };
const retryable: Plan = { kind: 'retryable' };
const part = (type: string, value: string, detail = 'no') => ({
  type: urn + type,
  detail,
  identifier: { type: 'dns', value },
});

type Row = [AcmeCall['operation'], Answer, ErrorCode, Plan, Partial<AcmeCall>?];
const rows: Row[] = [
  ['order', { status: 400, type: 'badNonce' }, 'ca_bad_nonce', retryable],
  ['newOrder', { status: 400, type: 'accountDoesNotExist' }, 'account_missing_at_ca', park],
  ['newOrder', { status: 409, type: 'alreadyReplaced' }, 'already_replaced', retryable, { replaces: true }],
  ['newOrder', { status: 404, type: 'malformed' }, 'already_replaced', retryable, { replaces: true }],
  ['newOrder', { status: 403, type: 'unauthorized' }, 'already_replaced', retryable, { replaces: true }],
  ['newOrder', { status: 409, type: 'conflict' }, 'already_replaced', retryable, { replaces: true }],
  ['account', { status: 409, type: 'conflict' }, 'ca_malformed', permanent],
  ['revokeCert', { status: 400, type: 'alreadyRevoked' }, 'already_revoked', permanent],
  ['revokeCert', { status: 400, type: 'badRevocationReason' }, 'revocation_reason_bad', permanent],
  ['order', { status: 400, type: 'autoRenewalCanceled' }, 'ca_malformed', permanent],
  ['order', { status: 400, type: 'autoRenewalExpired' }, 'ca_malformed', permanent],
  ['order', { status: 400, type: 'autoRenewalCancellationInvalid' }, 'ca_malformed', permanent],
  ['revokeCert', { status: 403, type: 'autoRenewalRevocationNotSupported' }, 'ca_malformed', permanent],
  ['newOrder', { status: 400, type: 'unknownDelegation' }, 'ca_malformed', permanent],
  ['newOrder', { status: 403, type: 'onionCAARequired' }, 'caa_forbids', permanent],
  ['finalize', { status: 400, type: 'badCSR' }, 'csr_rejected', permanent],
  ['finalize', { status: 400, type: 'badPublicKey' }, 'csr_rejected', permanent],
  ['newAccount', { status: 400, type: 'badPublicKey' }, 'ca_signature_algorithm', permanent],
  ['newAccount', { status: 400, type: 'badSignatureAlgorithm' }, 'ca_signature_algorithm', permanent],
  [
    'finalize',
    { status: 403, type: 'caa' },
    'caa_forbids',
    { kind: 'retryable', attempts: 2, notBefore: now + hour / 6 },
  ],
  ['finalize', { status: 400, type: 'dns' }, 'ca_dns_problem', retryable],
  ['finalize', { status: 400, type: 'connection' }, 'ca_connection_problem', retryable],
  ['finalize', { status: 400, type: 'tls' }, 'ca_tls_problem', retryable],
  ['finalize', { status: 400, type: 'incorrectResponse' }, 'ca_wrong_answer', retryable],
  ['newAccount', { status: 403, type: 'externalAccountRequired' }, 'eab_required', park],
  ['newAccount', { status: 403, type: 'unauthorized' }, 'eab_refused', park, { eab: true }],
  ['newAccount', { status: 400, type: 'invalidContact' }, 'contact_refused', park],
  ['newAccount', { status: 400, type: 'unsupportedContact' }, 'contact_refused', park],
  ['newOrder', { status: 403, type: 'userActionRequired' }, 'terms_not_agreed', park],
  ['newOrder', { status: 400, type: 'invalidProfile' }, 'profile_invalid', permanent, { profile: true }],
  [
    'newOrder',
    { status: 403, type: 'unauthorized', detail: 'account may not use profile "shortlived"' },
    'profile_invalid',
    permanent,
    { profile: true },
  ],
  ['newOrder', { status: 400, type: 'rejectedIdentifier' }, 'identifier_rejected', permanent],
  ['newOrder', { status: 400, type: 'unsupportedIdentifier' }, 'identifier_rejected', permanent],
  ['newOrder', { status: 403, type: 'unauthorized' }, 'account_unauthorized', park],
  [
    'order',
    { status: 403, type: 'unauthorized', detail: 'Account is not valid, has status "deactivated"' },
    'account_unauthorized',
    park,
  ],
  ['order', { status: 403, type: 'unauthorized' }, 'acme_order_gone', restart],
  ['finalize', { status: 403, type: 'unauthorized' }, 'acme_order_invalid', restart],
  [
    'finalize',
    { status: 403, type: 'unauthorized', detail: 'CSR does not specify same identifiers as Order' },
    'csr_rejected',
    permanent,
  ],
  ['finalize', { status: 403, type: 'orderNotReady' }, 'acme_order_not_ready', retryable],
  ['order', { status: 404, type: 'malformed' }, 'acme_order_gone', restart],
  ['order', { status: 404, body: '' }, 'acme_order_gone', restart],
  ['authorization', { status: 404, type: 'malformed' }, 'acme_order_gone', restart],
  ['authorization', { status: 400, type: 'malformed' }, 'acme_order_gone', restart],
  ['finalize', { status: 404, type: 'malformed' }, 'acme_order_gone', restart],
  ['finalize', { status: 400, type: 'malformed' }, 'ca_malformed', permanent],
  ['challenge', { status: 404, type: 'malformed' }, 'acme_order_gone', restart],
  ['challenge', { status: 400, type: 'malformed' }, 'acme_order_not_ready', retryable],
  ['certificate', { status: 404, type: 'malformed' }, 'acme_order_processing', retryable],
  ['newOrder', { status: 400, type: 'malformed' }, 'ca_malformed', permanent],
  ['newOrder', { status: 404, type: 'malformed' }, 'ca_protocol_error', retryable],
  ['newOrder', { status: 405, type: 'malformed' }, 'ca_malformed', permanent],
  ['newOrder', { status: 415, type: 'malformed' }, 'ca_malformed', permanent],
  ['newOrder', { status: 429, type: 'rateLimited' }, 'ca_rate_limited', { kind: 'wait', until: now + hour }],
  ['newOrder', { status: 500, type: 'serverInternal' }, 'ca_unavailable', retryable],
  ['newOrder', { status: 502, body: '<html>' }, 'ca_unavailable', retryable],
  ['newOrder', { status: 503, body: '<html>' }, 'ca_unavailable', retryable],
  ['newOrder', { status: 408, body: '' }, 'ca_unavailable', retryable],
  ['newOrder', { status: 404, body: '<html>' }, 'ca_protocol_error', retryable],
  ['directory', { status: 404, body: '<html>' }, 'ca_protocol_error', retryable],
  ['order', { status: 403, body: '<html>blocked' }, 'ca_protocol_error', retryable],
  ['order', { status: 302, body: '' }, 'ca_protocol_error', retryable],
  ['newOrder', { status: 400, type: 'typeOfTomorrow' }, 'ca_protocol_error', retryable],
  ['newOrder', { status: 400, type: 'constructor' }, 'ca_protocol_error', retryable],
  ['newOrder', { status: 500, type: 'typeOfTomorrow' }, 'ca_unavailable', retryable],
];

describe('acmeError', () => {
  test.each(rows)('an answer to %s of %o is %s with the plan %o', (operation, answer, code, plan, call) => {
    const error = errorOf(operation, answer, call);
    expect({ code: error.code, plan: error.plan }).toEqual({ code, plan });
  });

  test('every type of the registry has a row in this test', () => {
    const tried = new Set([...rows.map(([, { type }]) => type), 'compound']);
    expect(knownProblemTypes.filter((type) => !tried.has(type))).toEqual([]);
  });

  test('a rate limit waits as many seconds as Retry-After says', () => {
    const error = errorOf('newOrder', { status: 429, type: 'rateLimited', headers: { 'retry-after': '90' } });
    expect(error.plan).toEqual({ kind: 'wait', until: now + 90_000 });
  });

  test('a rate limit waits until the date of Retry-After, by the clock of the CA', () => {
    const headers = { 'retry-after': 'Mon, 23 Nov 2026 15:00:00 GMT', date: 'Mon, 23 Nov 2026 13:00:00 GMT' };
    const error = errorOf('newOrder', { status: 429, body: '<html>', headers });
    expect(error).toMatchObject({ code: 'ca_rate_limited', plan: { kind: 'wait', until: now + 2 * hour } });
  });

  test('a Retry-After of the past or of nonsense makes nobody wait for ever', () => {
    const past = { 'retry-after': 'Mon, 23 Nov 2020 15:00:00 GMT' };
    expect(errorOf('newOrder', { status: 429, headers: past }).plan).toEqual({ kind: 'wait', until: now });
    const nonsense = { 'retry-after': 'soon' };
    expect(errorOf('newOrder', { status: 429, headers: nonsense }).plan).toEqual({ kind: 'wait', until: now + hour });
  });

  test('a rate limit without the header waits until the time in its words, and not for ever', () => {
    const saying = (detail: string, headers = {}) =>
      errorOf('newOrder', { status: 429, type: 'rateLimited', detail, headers }).plan;
    const words = (time: string) =>
      `too many new orders (300) from this account, retry after ${time}: see https://x.example`;
    expect(saying(words('2026-11-23 14:00:00 UTC'))).toEqual({ kind: 'wait', until: now + 2 * hour });
    expect(saying(words('2020-11-23 14:00:00 UTC'))).toEqual({ kind: 'wait', until: now });
    expect(saying(words('2099-11-23 14:00:00 UTC'))).toEqual({ kind: 'wait', until: now + 30 * 24 * hour });
    expect(saying(words('2026-11-23 14:00:00 UTC'), { 'retry-after': '60' })).toEqual({
      kind: 'wait',
      until: now + 60_000,
    });
    for (const time of ['2026-13-45 99:00:00 UTC', 'tomorrow', '14:00'])
      expect(saying(words(time))).toEqual({ kind: 'wait', until: now + hour });
  });

  test('503 with Retry-After waits, other server errors are tried again not before it', () => {
    const headers = { 'retry-after': '60' };
    expect(errorOf('order', { status: 503, body: '<html>', headers }).plan).toEqual({
      kind: 'wait',
      until: now + 60_000,
    });
    expect(errorOf('order', { status: 500, type: 'serverInternal', headers }).plan).toEqual({
      kind: 'retryable',
      notBefore: now + 60_000,
    });
  });

  test('a paused account fails the order and tells where to unpause it', () => {
    const detail =
      'Your account is temporarily prevented from requesting certificates for a.example and possibly others. Please visit: https://ca.example/sfe/v1/unpause?jwt=x';
    const error = errorOf('newOrder', { status: 429, type: 'rateLimited', detail, headers: { 'retry-after': '60' } });
    expect(error).toMatchObject({ code: 'ca_account_paused', plan: permanent });
    expect(error.message).toContain('https://ca.example/sfe/v1/unpause?jwt=x');
  });

  test('a name with the word paused is no paused account', () => {
    const detail = 'too many certificates (50) already issued for "is-paused.example" in the last 168h0m0s';
    expect(errorOf('newOrder', { status: 429, type: 'rateLimited', detail }).code).toBe('ca_rate_limited');
  });

  test('new terms are named by the instance of the problem, or by a link', () => {
    const terms = { status: 403, type: 'userActionRequired' };
    expect(errorOf('newOrder', { ...terms, instance: 'https://ca.example/agree' }).message).toContain(
      'https://ca.example/agree',
    );
    const headers = { link: '<https://ca.example/index>;rel="index", </terms/2>; rel="terms-of-service"' };
    expect(errorOf('newOrder', { ...terms, headers }).message).toContain('https://ca.example/terms/2');
  });

  test('the algorithms that the CA takes are told', () => {
    const error = errorOf('newAccount', { status: 400, type: 'badSignatureAlgorithm', algorithms: ['RS256', 'PS256'] });
    expect(error.message).toContain('RS256, PS256');
  });

  test('rejected names are told, each with its reason', () => {
    const subproblems = [part('rejectedIdentifier', 'a.example', 'on a list'), part('rejectedIdentifier', 'b.example')];
    const error = errorOf('newOrder', { status: 400, type: 'rejectedIdentifier', subproblems });
    expect(error.code).toBe('identifier_rejected');
    expect(error.message).toContain('a.example: on a list');
    expect(error.message).toContain('b.example');
  });

  test('a malformed problem with parts is about its names', () => {
    const subproblems = [part('malformed', 'a_b.example')];
    expect(errorOf('newOrder', { status: 400, type: 'malformed', subproblems }).code).toBe('identifier_rejected');
    const detail = 'Invalid identifiers requested :: Cannot issue for "x.example"';
    expect(errorOf('newOrder', { status: 400, type: 'malformed', detail }).code).toBe('identifier_rejected');
  });

  test('of a compound problem the worst action wins', () => {
    const compound = (...subproblems: object[]) =>
      errorOf('newOrder', { status: 400, type: 'compound', subproblems, headers: { 'retry-after': '60' } });
    const dns = part('dns', 'a.example');
    const limited = part('rateLimited', 'b.example');
    expect(compound(dns, part('rejectedIdentifier', 'b.example'), limited).code).toBe('identifier_rejected');
    expect(compound(dns, part('userActionRequired', 'b.example'), limited).plan).toEqual(park);
    expect(compound(dns, limited).plan).toEqual({ kind: 'wait', until: now + 60_000 });
  });

  test('a part that has to be waited for holds up the other parts', () => {
    const subproblems = [part('caa', 'a.example'), part('rateLimited', 'b.example')];
    const error = errorOf('newOrder', { status: 400, type: 'compound', subproblems, headers: { 'retry-after': '60' } });
    // ten minutes for the CAA record outlast the minute of the limit
    expect(error).toMatchObject({ code: 'ca_rate_limited', plan: { kind: 'wait', until: now + hour / 6 } });
  });

  test('a compound problem without parts is judged by its status', () => {
    expect(errorOf('newOrder', { status: 400, type: 'compound' }).code).toBe('ca_protocol_error');
    expect(errorOf('newOrder', { status: 500, type: 'compound' }).code).toBe('ca_unavailable');
  });

  test('a name that the account may not order is no reason to park the account', () => {
    const subproblems = [part('unauthorized', 'a.example')];
    expect(errorOf('newOrder', { status: 403, type: 'compound', subproblems }).plan).toEqual(permanent);
  });

  test('words of the CA come on one line and not without end', () => {
    const error = errorOf('newOrder', { status: 400, type: 'malformed', detail: `a\u001b[31m\nb${'c'.repeat(5000)}` });
    expect(error.message).not.toMatch(/\p{Cc}/u);
    expect(error.message.length).toBeLessThan(1200);
  });

  test('a page instead of a problem is told by its text', () => {
    const error = errorOf('newOrder', { status: 502, body: '<html><h1>Bad Gateway</h1></html>' });
    expect(error.message).toContain('Bad Gateway');
    expect(error.evidence).toMatchObject({ status: 502, operation: 'newOrder' });
  });
});
