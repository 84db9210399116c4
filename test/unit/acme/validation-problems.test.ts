import { describe, expect, test } from 'vitest';
import { problemSchema } from '#libs/acme/problem-document';
import { authorizationError } from '#libs/acme/problems';
import { authorizationSchema } from '#libs/acme/resources';
import { orderError } from '#libs/acme/validation-problems';
import type { ErrorCode } from '#libs/errors';

const urn = 'urn:ietf:params:acme:error:';
const now = Date.UTC(2026, 0, 1);
const minute = 60_000;

function authorization(status: string, error?: object, wildcard = false) {
  const challenge = { type: 'http-01', url: 'https://ca.example/c/1', token: 't', status: 'invalid', error };
  const parsed = authorizationSchema.parse({
    status,
    wildcard,
    identifier: { type: 'dns', value: 'www.example.com' },
    challenges: [{ ...challenge, type: 'dns-01', error: undefined }, challenge],
  });
  return { ...parsed, retryAfter: null };
}

const failure = (type: string, detail = 'no') =>
  authorizationError(authorization('invalid', { type: urn + type, detail }), now);

describe('authorizationError', () => {
  const rows: [string, ErrorCode, 'restart' | 'permanent'][] = [
    ['dns', 'ca_dns_problem', 'restart'],
    ['connection', 'ca_connection_problem', 'restart'],
    ['tls', 'ca_tls_problem', 'restart'],
    ['unauthorized', 'ca_wrong_answer', 'restart'],
    ['incorrectResponse', 'ca_wrong_answer', 'restart'],
    ['malformed', 'ca_wrong_answer', 'restart'],
    ['caa', 'caa_forbids', 'restart'],
    ['onionCAARequired', 'caa_forbids', 'permanent'],
    ['rejectedIdentifier', 'identifier_rejected', 'permanent'],
    ['unsupportedIdentifier', 'identifier_rejected', 'permanent'],
    ['rateLimited', 'ca_rate_limited', 'restart'],
    ['serverInternal', 'ca_unavailable', 'restart'],
    ['typeOfTomorrow', 'acme_order_invalid', 'restart'],
    ['toString', 'acme_order_invalid', 'restart'],
  ];
  test.each(rows)('a challenge that failed by %s is %s and its plan %s', (type, code, kind) => {
    expect(failure(type)).toMatchObject({ code, plan: { kind } });
  });

  test.each([
    ['caa', { attempts: 2, notBefore: now + 10 * minute }],
    ['unauthorized', { attempts: 3, notBefore: now + 12 * minute }],
    ['rateLimited', { notBefore: now + 60 * minute }],
  ])('a challenge that failed by %s is not tried as soon or as often as others', (type, more) => {
    expect(failure(type).plan).toEqual({ kind: 'restart', ...more });
  });

  test('by a rate limit whose words name a time is not tried before it', () => {
    const words =
      'too many failed authorizations (5) for "www.example.com" in the last 1h0m0s, retry after 2026-01-01 02:30:00 UTC';
    expect(failure('rateLimited', words).plan).toEqual({ kind: 'restart', notBefore: now + 150 * minute });
  });

  test('has the name and the words of the CA', () => {
    const error = failure('dns', 'DNS problem: SERVFAIL looking up A');
    expect(error.message).toContain('www.example.com: DNS problem: SERVFAIL looking up A');
    expect(error.evidence).toMatchObject({ name: 'www.example.com', challenge: 'http-01', type: 'dns' });
  });

  test('names a wildcard as it was ordered', () => {
    const error = authorizationError(authorization('invalid', { type: `${urn}dns`, detail: 'no' }, true), now);
    expect(error.message).toContain('*.www.example.com');
  });

  test('explains a failure in another region of the world', () => {
    const detail = 'During secondary validation: 192.0.2.1: Fetching http://www.example.com/: Timeout';
    expect(failure('connection', detail).message).toMatch(/several regions/);
    expect(failure('connection', 'Timeout').message).not.toMatch(/several regions/);
  });

  test('takes the worst part of a compound problem', () => {
    const subproblems = [{ type: `${urn}dns` }, { type: `${urn}rejectedIdentifier` }];
    const error = authorizationError(
      authorization('invalid', { type: `${urn}compound`, detail: 'no', subproblems }),
      now,
    );
    expect(error).toMatchObject({ code: 'identifier_rejected', plan: { kind: 'permanent' } });
  });

  test.each(['expired', 'deactivated', 'revoked'])(
    'an authorization that is %s asks for a new ACME order',
    (status) => {
      expect(authorizationError(authorization(status), now)).toMatchObject({
        code: 'validation_expired',
        plan: { kind: 'restart' },
      });
    },
  );

  test('an invalid authorization without an error still asks for a new ACME order', () => {
    expect(authorizationError(authorization('invalid'), now)).toMatchObject({
      code: 'acme_order_invalid',
      plan: { kind: 'restart' },
    });
  });
});

test('an order that became invalid by a CAA record says so', () => {
  const problem = problemSchema.parse({ type: `${urn}caa`, detail: 'CAA record for a.example prevents issuance' });
  expect(orderError(['a.example'], problem, now)).toMatchObject({ code: 'caa_forbids', plan: { kind: 'restart' } });
});

test('an order that became invalid as unauthorized is no wrong answer of the host', () => {
  const problem = problemSchema.parse({ type: `${urn}unauthorized`, detail: 'no' });
  expect(orderError(['a.example'], problem, now)).toMatchObject({
    code: 'acme_order_invalid',
    plan: { kind: 'restart' },
  });
});
