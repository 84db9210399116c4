import { type ErrorCode, errorCodes, type PlanKind } from './error-codes.ts';

export type { ErrorCode } from './error-codes.ts';

/** One thing wrong with one field of a request. */
export interface Problem {
  path: string;
  code: ErrorCode;
  detail: string;
}

/** What a stage does about a failure (design: "Failures are data"). */
export type Plan =
  /** Fail the order now. */
  | { kind: 'permanent' }
  /** Try the stage again after its backoff, not before `notBefore` (ms since the epoch); uses an attempt, `attempts` at the most. */
  | { kind: 'retryable'; notBefore?: number; attempts?: number }
  /**
   * Give the slot back until `until` (ms since the epoch), or a little longer, for others were told the same; uses no attempt. `exact`: at that very
   * time, which is the order's own, or one that all are to meet at.
   */
  | { kind: 'wait'; until: number; exact?: true }
  /** Abandon the ACME order and begin again at validation with a new one: epoch + 1, within a budget; not before `notBefore`. `free`: nobody failed, soon and outside the budget. */
  | { kind: 'restart'; notBefore?: number; attempts?: number; free?: true }
  /** A credential (`on`), or else the account, is bad: hold all of its orders until it is mended. */
  | { kind: 'park'; on?: string };

export interface CertlineErrorOptions {
  /** Replaces the code's usual plan. */
  plan?: Plan;
  /** What was seen: addresses, status codes, the start of a body. Never a secret. */
  evidence?: Record<string, unknown>;
  problems?: Problem[];
  cause?: unknown;
}

function usualPlan(kind: Exclude<PlanKind, 'wait'>): Plan {
  return { kind };
}

/** The one error type: a stable code, words for a person, and a plan for the stage that met it. */
export class CertlineError extends Error {
  override readonly name = 'CertlineError';
  readonly code: ErrorCode;
  readonly plan: Plan;
  readonly evidence: Record<string, unknown> | undefined;
  readonly problems: Problem[] | undefined;

  constructor(code: ErrorCode, detail: string, options: CertlineErrorOptions = {}) {
    super(detail, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.plan = options.plan ?? usualPlan(errorCodes[code].plan);
    this.evidence = options.evidence;
    this.problems = options.problems;
  }
}

/** Any thrown thing as a `CertlineError`; what nobody translated is `unexpected`, which is retryable. */
export function asCertlineError(thrown: unknown): CertlineError {
  if (thrown instanceof CertlineError) return thrown;
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  return new CertlineError('unexpected', detail, { cause: thrown });
}
