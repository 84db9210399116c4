import type { CertlineError } from '../errors.ts';
import type { Order, StageName } from '../model/order.ts';
import { failed, orderError, restarted } from '../model/transitions.ts';
import { backoff } from './backoff.ts';
import { restartPolicy, stages } from './stages.ts';

export type OutcomeKind = 'failed' | 'retry' | 'wait' | 'restart' | 'parked';

export interface Outcome {
  kind: OutcomeKind;
  order: Order;
}

export interface OutcomeTime {
  now: number;
  /** In [0, 1): the jitter. */
  random: number;
  /** Factor on all delays of ours (not on those the CA names): 1, less in a lab. */
  scale: number;
}

/** How long before the end of a stage an order that waits is looked at for the last time. */
const lastLookMs = 60_000;

/**
 * Whether an attempt came as far as a look for a record that is not there yet: whatever failed before has passed. An order looks for days, and
 * failures that are hours apart must not add up.
 */
const isLook = ({ code }: CertlineError): boolean => code === 'dns_record_awaited' || code === 'dns_record_not_visible';

/** What becomes of an order whose stage met `error`: the error's plan, within the stage's budgets. Pure. */
export function afterFailure(begun: Order, stage: StageName, error: CertlineError, time: OutcomeTime): Outcome {
  const order = { ...begun, startedAt: null };
  const { now, random, scale } = time;
  const record = orderError(error, stage, now);
  const { plan } = error;
  const { retry, deadline } = stages[stage];
  const counted = { ...order.attempts, [stage]: order.attempts[stage] + 1 };
  const giveUp = (): Outcome => ({
    kind: 'failed',
    order: failed({ ...order, attempts: counted }, stage, record, now),
  });

  if (plan.kind === 'wait') {
    // Not past the stage's end: it is met by a last look, not by silence.
    const lastLook = order.stageSince + deadline - lastLookMs;
    if (now >= lastLook) return giveUp();
    const until = Math.min(plan.until, lastLook);
    return {
      kind: 'wait',
      order: {
        ...order,
        attempts: isLook(error) ? { ...order.attempts, [stage]: 0 } : order.attempts,
        updatedAt: now,
        error: record,
        nextAttemptAt: Math.max(until, now),
      },
    };
  }
  if (plan.kind === 'park') {
    return {
      kind: 'parked',
      order: {
        ...order,
        updatedAt: now,
        error: record,
        nextAttemptAt: null,
        parkedOn: plan.on ?? order.request.account,
      },
    };
  }
  if (plan.kind === 'restart' && plan.free && (order.status === 'pending' || order.status === 'validated')) {
    const at = now + backoff(retry, 1, random) * scale;
    const next = { ...restarted(order, now), restarts: order.restarts };
    return { kind: 'restart', order: { ...next, error: record, nextAttemptAt: Math.round(at) } };
  }
  if (plan.kind === 'restart' && (order.status === 'pending' || order.status === 'validated')) {
    if (order.restarts + 1 >= Math.min(restartPolicy.attempts, plan.attempts ?? restartPolicy.attempts))
      return giveUp();
    const at = Math.max(now + backoff(restartPolicy, order.restarts + 1, random) * scale, plan.notBefore ?? 0);
    return {
      kind: 'restart',
      order: {
        ...restarted({ ...order, attempts: counted }, now),
        error: record,
        nextAttemptAt: Math.round(at),
      },
    };
  }
  const { notBefore = 0, attempts = retry.attempts } = plan.kind === 'retryable' ? plan : {};
  if (plan.kind === 'permanent' || counted[stage] >= Math.min(retry.attempts, attempts)) return giveUp();
  const at = Math.max(now + backoff(retry, counted[stage], random) * scale, notBefore);
  return {
    kind: 'retry',
    order: {
      ...order,
      updatedAt: now,
      attempts: counted,
      error: record,
      nextAttemptAt: Math.round(at),
    },
  };
}
