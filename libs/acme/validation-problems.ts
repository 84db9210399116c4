import { CertlineError, type Plan } from '#libs/errors';
import { readRetryTime } from '../retry-after.ts';
import { type AcmeProblem, wordsOf } from './problem-document.ts';
import type { Authorization } from './resources.ts';
import { type Verdict, verdict, worstOf } from './verdict.ts';

const minute = 60_000;

// An authorization or order that failed stays failed (RFC 8555 §7.1.6): what may yet succeed needs a new ACME order. When, is the queue's backoff.
const restart: Plan = { kind: 'restart' };

/** A CAA record takes a person's hand, and resolvers keep the old one for a while: one more try. */
const caaForbids = (now: number) =>
  verdict('caa_forbids', { kind: 'restart', attempts: 2, notBefore: now + 10 * minute });
/** CAs allow a handful of failed proofs of a name in an hour (Let's Encrypt five), and a person may need some of them. */
const unauthorized = (now: number) =>
  verdict('ca_wrong_answer', { kind: 'restart', attempts: 3, notBefore: now + 12 * minute });
const rateLimited = (now: number, words: string) =>
  verdict('ca_rate_limited', { kind: 'restart', notBefore: readRetryTime(words, now) ?? now + 60 * minute });
const rejected = () => verdict('identifier_rejected');
const wrongAnswer = () => verdict('ca_wrong_answer', restart);
const csrRejected = () => verdict('csr_rejected');

/** What the CA may find wrong while it validates (RFC 8555 §8) or issues (§7.4). */
const rows: Record<string, (now: number, words: string) => Verdict> = {
  badCSR: csrRejected,
  badPublicKey: csrRejected,
  caa: caaForbids,
  connection: () => verdict('ca_connection_problem', restart),
  dns: () => verdict('ca_dns_problem', restart),
  incorrectResponse: wrongAnswer,
  // Boulder: a redirect to where it does not follow
  malformed: wrongAnswer,
  onionCAARequired: () => verdict('caa_forbids', { kind: 'permanent' }),
  rateLimited,
  rejectedIdentifier: rejected,
  serverInternal: () => verdict('ca_unavailable', restart),
  tls: () => verdict('ca_tls_problem', restart),
  unauthorized,
  unsupportedIdentifier: rejected,
};

function judge(problem: AcmeProblem, now: number): Verdict {
  const look = ({ type, detail }: Pick<AcmeProblem, 'type' | 'detail'>) =>
    Object.hasOwn(rows, type) ? rows[type]?.(now, detail) : undefined;
  const parts = problem.subproblems.flatMap((part) => look(part) ?? []);
  const own = look(problem);
  const worst = problem.type === 'compound' || !own ? worstOf(parts) : null;
  return worst ?? own ?? verdict('acme_order_invalid', restart);
}

/** CAs look from several regions (MPIC); the one beside us may be content while another is shut out. */
function regionHint(words: string): string {
  return /secondary validation|multi-?perspective|remote perspective|\bMPIC\b/i.test(words)
    ? ' The CA validates from several regions of the world and one of them failed (secondary validation): look for filters by country or network.'
    : '';
}

/**
 * Why an authorization that is not valid failed, with a plan of `restart` or `permanent`: the error of its challenge, in the CA's words with the name.
 * To be asked only of an authorization with the status invalid, deactivated, expired or revoked.
 */
export function authorizationError(authorization: Authorization, now: number): CertlineError {
  const { name, status } = authorization;
  const failed = authorization.challenges.find(({ error }) => error !== null);
  if (status !== 'invalid' || !failed?.error) {
    const gone = status === 'invalid' ? 'acme_order_invalid' : 'validation_expired';
    return new CertlineError(gone, `${name}: the authorization is ${status}, and the CA does not say why.`, {
      plan: restart,
      evidence: { name, status },
    });
  }
  const { error: problem } = failed;
  const found = judge(problem, now);
  const words = wordsOf(problem);
  const named = words.includes(name) ? words : `${name}: ${words}`;
  return new CertlineError(found.code, `${named} (${failed.type}, ${problem.type}).${regionHint(words)}`, {
    plan: found.plan,
    evidence: {
      name,
      challenge: failed.type,
      type: problem.type,
      validationRecord: failed.validationRecord.slice(0, 5),
    },
  });
}

/**
 * Why an ACME order of these names became invalid (RFC 8555 §7.1.3), with a plan of `restart` or `permanent`. Where a validation failed, the
 * authorizations say more than the order does: ask `authorizationError` first.
 */
export function orderError(names: readonly string[], problem: AcmeProblem, now: number): CertlineError {
  const found = judge(problem, now);
  const words = wordsOf(problem);
  // what an order was refused for at issuance is no failed proof of control
  const code = found.code === 'ca_wrong_answer' ? 'acme_order_invalid' : found.code;
  return new CertlineError(code, `The ACME order became invalid: ${words} (${problem.type}).${regionHint(words)}`, {
    plan: found.plan,
    evidence: { names: names.slice(0, 10), type: problem.type },
  });
}
