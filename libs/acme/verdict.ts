import { type ErrorCode, errorCodes } from '#libs/error-codes';
import type { Plan } from '#libs/errors';

/** What a problem means to us. */
export interface Verdict {
  code: ErrorCode;
  plan: Plan;
  /** Added to the CA's words. */
  hint?: string;
}

/** A verdict with the code's usual plan, or the one given. */
export function verdict(code: ErrorCode, plan?: Plan, hint?: string): Verdict {
  return {
    code,
    plan: plan ?? { kind: errorCodes[code].plan },
    ...(hint === undefined ? {} : { hint }),
  };
}

const severity = {
  permanent: 4,
  park: 3,
  restart: 2,
  wait: 1,
  retryable: 0,
} as const;

function earliest(plan: Plan): number {
  if (plan.kind === 'wait') return plan.until;
  if (plan.kind === 'permanent' || plan.kind === 'park') return 0;
  return plan.notBefore ?? 0;
}

/** How often a part may be met that asks for the same as the whole does. */
function attemptsOf(plan: Plan, kind: 'retryable' | 'restart'): number {
  return (plan.kind === kind ? plan.attempts : undefined) ?? Number.POSITIVE_INFINITY;
}

/**
 * The verdict on a problem of several parts (RFC 8555 §6.7.1): the worst action wins, for the order is one, and the mildest would walk into the
 * worst again. Of equals the first. What has to be waited for by any part is waited for by the whole: a restart beside a rate limit starts after it.
 */
export function worstOf(verdicts: readonly Verdict[]): Verdict | null {
  const [first, ...others] = verdicts;
  if (!first) return null;
  const worst = others.reduce((a, b) => (severity[b.plan.kind] > severity[a.plan.kind] ? b : a), first);
  const { plan } = worst;
  const time = Math.max(...verdicts.map((one) => earliest(one.plan)));
  if (plan.kind === 'wait') return { ...worst, plan: { kind: 'wait', until: time } };
  if (plan.kind === 'permanent' || plan.kind === 'park') return worst;
  const attempts = Math.min(...verdicts.map((one) => attemptsOf(one.plan, plan.kind)));
  return {
    ...worst,
    plan: {
      kind: plan.kind,
      ...(time === 0 ? {} : { notBefore: time }),
      ...(attempts === Number.POSITIVE_INFINITY ? {} : { attempts }),
    },
  };
}
