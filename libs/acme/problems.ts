import { CertlineError } from '#libs/errors';
import { readRetryAfter, readRetryTime } from '../retry-after.ts';
import { readLinks } from './headers.ts';
import type { AcmeCall } from './operations.ts';
import { type AcmeProblem, type AcmeSubproblem, clip, readProblem, wordsOf } from './problem-document.ts';
import type { TransportAnswer } from './transport.ts';
import { type Verdict, verdict, worstOf } from './verdict.ts';

export { authorizationError } from './validation-problems.ts';

const hour = 3_600_000;
// A CAA record takes a person's hand, and resolvers keep the old one for a while.
const caaPause = 600_000;

/** A problem and all that its meaning depends on. */
interface Seen {
  problem: AcmeProblem | (AcmeSubproblem & { algorithms?: string[] });
  /** Of the outer problem when this is a subproblem. */
  status: number;
  call: AcmeCall;
  now: number;
  retryAfter: number | null;
  /** Terms of service that a Link header or the problem's `instance` leads to. */
  terms: string | null;
  isPart: boolean;
}

const retryLater = ({ retryAfter }: Seen) =>
  ({
    kind: 'retryable',
    ...(retryAfter === null ? {} : { notBefore: retryAfter }),
  }) as const;

/** What is asked at addresses of the directory: a 404 there is about the address, and about no object. */
const fromDirectory = ['directory', 'newNonce', 'newAccount', 'newOrder'] as const;

const isOneOf = (call: AcmeCall, ...operations: AcmeCall['operation'][]) => operations.includes(call.operation);

/**
 * A malformed request is our fault or the CA's memory: objects expire and are purged. Which one, the address tells better than the words do.
 */
function malformed(seen: Seen): Verdict {
  const { call, status } = seen;
  // every CA words its refusal of `replaces` its own way; without it, a request that is really malformed is refused again
  if (call.replaces) return verdict('already_replaced');
  if (seen.isPart) return verdict('identifier_rejected');
  if (isOneOf(call, 'order', 'authorization')) return verdict('acme_order_gone');
  if (isOneOf(call, 'finalize', 'challenge') && status === 404) return verdict('acme_order_gone');
  // the challenge is no longer pending, as after a lost answer: the authorization tells
  if (call.operation === 'challenge') return verdict('acme_order_not_ready');
  // the certificate is not yet on the replica that was asked
  if (call.operation === 'certificate' && status === 404) return verdict('acme_order_processing');
  if (/cannot issue for|invalid identifiers? requested/i.test(seen.problem.detail))
    return verdict('identifier_rejected');
  // what the directory named is no longer there: it is read anew
  if (isOneOf(call, ...fromDirectory) && (status === 404 || status === 410))
    return verdict('ca_protocol_error', retryLater(seen));
  return verdict('ca_malformed');
}

function unauthorized(seen: Seen): Verdict {
  const { call, problem, isPart } = seen;
  if (isPart && problem.identifier) return verdict('identifier_rejected');
  if (/\baccount\b.*\b(deactivated|revoked|not valid)\b/i.test(problem.detail)) return verdict('account_unauthorized');
  if (call.replaces) return verdict('already_replaced');
  // Let's Encrypt refuses profiles that an account may not use in this way (nginx-acme #71)
  if (call.profile && /profile/i.test(problem.detail)) return verdict('profile_invalid');
  if (call.eab) return verdict('eab_refused');
  // the order is another account's: ours was registered anew under it
  if (isOneOf(call, 'order', 'authorization', 'challenge', 'certificate')) return verdict('acme_order_gone');
  // the names of the request are not those of the order, say Boulder and Pebble
  if (call.operation === 'finalize' && /\bCSR\b/.test(problem.detail)) return verdict('csr_rejected');
  // its authorizations ran out, or belong to another account
  if (call.operation === 'finalize') return verdict('acme_order_invalid');
  return verdict('account_unauthorized');
}

function rateLimited(seen: Seen): Verdict {
  const until = seen.retryAfter ?? seen.now + hour;
  return verdict('ca_rate_limited', { kind: 'wait', until });
}

const rejected = () => verdict('identifier_rejected');
const refused = () => verdict('ca_malformed');
const signature = ({ problem }: Seen) =>
  verdict(
    'ca_signature_algorithm',
    undefined,
    problem.algorithms?.length ? `it takes ${problem.algorithms.join(', ')}` : undefined,
  );

/** Every type of the ACME registry, RFC 8555 §6.7 and the RFCs after it, by its last word. `compound` is taken apart before. */
const rows: Record<string, (seen: Seen) => Verdict> = {
  accountDoesNotExist: () => verdict('account_missing_at_ca'),
  alreadyReplaced: () => verdict('already_replaced'),
  alreadyRevoked: () => verdict('already_revoked'),
  autoRenewalCanceled: refused,
  autoRenewalCancellationInvalid: refused,
  autoRenewalExpired: refused,
  autoRenewalRevocationNotSupported: refused,
  badCSR: () => verdict('csr_rejected'),
  badNonce: (seen) => verdict('ca_bad_nonce', retryLater(seen)),
  // the key of the request at finalize, of the account elsewhere
  badPublicKey: (seen) => (seen.call.operation === 'finalize' ? verdict('csr_rejected') : signature(seen)),
  badRevocationReason: () => verdict('revocation_reason_bad'),
  badSignatureAlgorithm: signature,
  caa: ({ now }) => verdict('caa_forbids', { kind: 'retryable', attempts: 2, notBefore: now + caaPause }),
  // Boulder, on newOrder only about `replaces`
  conflict: ({ call }) => verdict(call.replaces ? 'already_replaced' : 'ca_malformed'),
  // As the answer to a request these four leave the order as it was, and the stage reads it again: no restart by itself.
  connection: (seen) => verdict('ca_connection_problem', retryLater(seen)),
  dns: (seen) => verdict('ca_dns_problem', retryLater(seen)),
  incorrectResponse: (seen) => verdict('ca_wrong_answer', retryLater(seen)),
  tls: (seen) => verdict('ca_tls_problem', retryLater(seen)),
  externalAccountRequired: () => verdict('eab_required'),
  invalidContact: () => verdict('contact_refused'),
  invalidProfile: () => verdict('profile_invalid'),
  malformed,
  onionCAARequired: () => verdict('caa_forbids', { kind: 'permanent' }),
  orderNotReady: (seen) => verdict('acme_order_not_ready', retryLater(seen)),
  rateLimited,
  rejectedIdentifier: rejected,
  serverInternal: (seen) => verdict('ca_unavailable', retryLater(seen)),
  unauthorized,
  unknownDelegation: refused,
  unsupportedContact: () => verdict('contact_refused'),
  unsupportedIdentifier: rejected,
  userActionRequired: ({ terms }) => verdict('terms_not_agreed', undefined, terms ? `see ${terms}` : undefined),
};

/** The types that have a row, for the test that holds this table to the registry. */
export const knownProblemTypes: readonly string[] = [...Object.keys(rows), 'compound'];

/** What the status alone says: of bodies that are no problem document, and of types nobody knows. */
function byStatus(seen: Seen, hasProblem: boolean): Verdict {
  const { status, retryAfter, call } = seen;
  if (status === 429) return rateLimited(seen);
  if (status === 503 && retryAfter !== null) return verdict('ca_unavailable', { kind: 'wait', until: retryAfter });
  if (status >= 500 || status === 408 || status === 425) return verdict('ca_unavailable', retryLater(seen));
  // Some CAs answer 404 for a purged object with nothing or a page.
  if ((status === 404 || status === 410) && !hasProblem && !isOneOf(call, ...fromDirectory))
    return malformed({ ...seen, status: 404 });
  // All else, a type of tomorrow as well as a proxy's 403, may pass and may not: it is tried again, within the attempts of the stage, since a
  // needless permanent failure takes a person and a needless request takes nothing.
  return verdict('ca_protocol_error', retryLater(seen));
}

// The names in the words are the customer's ("paused.example"), so that the bare word is no sign.
const pauses =
  /\/unpause\b|temporarily prevented from requesting|\b(account|identifier)s? (is|are|has been|have been) paused\b/i;

function judge(seen: Seen, subproblems: readonly AcmeSubproblem[]): Verdict {
  if (pauses.test(seen.problem.detail)) return verdict('ca_account_paused');
  const { type } = seen.problem;
  // `malformed` and `rejectedIdentifier` with parts are Boulder's way of saying compound
  if (subproblems.length > 0 && /^(compound|malformed|rejectedIdentifier)$/.test(type)) {
    const parts = subproblems.map((problem) => judge({ ...seen, problem, isPart: true }, []));
    const worst = worstOf(parts);
    if (worst) return worst;
  }
  // 503 is the load balancer speaking, whatever words it found
  if (seen.status === 503 && seen.retryAfter !== null) return byStatus(seen, true);
  const row = Object.hasOwn(rows, type) ? rows[type] : undefined;
  return row ? row(seen) : byStatus(seen, true);
}

const nothingSaid: AcmeSubproblem = { type: 'about:blank', detail: '', identifier: null };

/**
 * The error that an answer of the CA with a status from 300 up means, with the plan for it (RFC 8555 §6.7; times in ms since the epoch).
 * `evidence` has the status, the type and the start of a body that is no problem document.
 */
export function acmeError(answer: TransportAnswer, call: AcmeCall, now: number): CertlineError {
  const problem = readProblem(answer.body);
  const told = problem ? wordsOf(problem) : '';
  const retryAfter = readRetryAfter(answer.headers, now) ?? readRetryTime(told, now);
  const terms = problem?.instance ?? readLinks(answer.headers, 'terms-of-service', call.url)[0] ?? null;
  const seen = { status: answer.status, call, now, retryAfter, terms, isPart: false };
  const found = problem
    ? judge({ ...seen, problem }, problem.subproblems)
    : byStatus({ ...seen, problem: nothingSaid }, false);
  const page = clip(answer.body.slice(0, 2_000).replace(/<[^>]*>/g, ' '), 200);
  const words = told || page || 'no further words';
  const hint = found.hint ? `; ${found.hint}` : '';
  const source = `HTTP ${answer.status}${problem ? `, ${problem.type}` : ''}`;
  return new CertlineError(found.code, `The CA answers ${call.operation}: ${words}${hint} (${source}).`, {
    plan: found.plan,
    evidence: {
      operation: call.operation,
      url: call.url,
      status: answer.status,
      ...(problem ? { type: problem.type } : { body: clip(answer.body, 500) }),
      ...(retryAfter === null ? {} : { retryAfter }),
    },
  });
}
