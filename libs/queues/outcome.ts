import type { CertlineError } from '../errors.ts';
import type { Order, StageName } from '../model/order.ts';
import { failed, orderError, restarted } from '../model/transitions.ts';
import { backoff, shortlyAfter } from './backoff.ts';
import { paceOf, restartPolicy, stages } from './stages.ts';

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
  const pace = paceOf(stage, error.code);
  const counted = { ...order.attempts, [stage]: order.attempts[stage] + 1 };
  const giveUp = (): Outcome => ({
    kind: 'failed',
    order: failed({ ...order, attempts: counted }, stage, record, now),
  });
  // Not past the stage's end, however long somebody wants us to stay away: it is met by a last look, not by silence.
  const lastLook = order.stageSince + deadline - lastLookMs;
  /** After a delay of ours, but not before the time that somebody named. */
  const inTime = (delay: number, named = 0): number => {
    const at = Math.max(now + delay * scale, named === 0 ? 0 : shortlyAfter(named, now, random));
    return Math.round(Math.min(at, lastLook));
  };

  if (plan.kind !== 'park' && now >= lastLook) return giveUp();
  if (plan.kind === 'wait') {
    const until = plan.exact ? plan.until : shortlyAfter(plan.until, now, random);
    return {
      kind: 'wait',
      order: {
        ...order,
        attempts: isLook(error) ? { ...order.attempts, [stage]: 0 } : order.attempts,
        updatedAt: now,
        error: record,
        nextAttemptAt: Math.round(Math.max(Math.min(until, lastLook), now)),
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
    const next = { ...restarted(order, now), restarts: order.restarts };
    return { kind: 'restart', order: { ...next, error: record, nextAttemptAt: inTime(backoff(pace, 1, random)) } };
  }
  if (plan.kind === 'restart' && (order.status === 'pending' || order.status === 'validated')) {
    if (order.restarts + 1 >= Math.min(restartPolicy.attempts, plan.attempts ?? restartPolicy.attempts))
      return giveUp();
    const delay = backoff(restartPolicy.pace, order.restarts + 1, random);
    return {
      kind: 'restart',
      order: {
        ...restarted({ ...order, attempts: counted }, now),
        error: record,
        nextAttemptAt: inTime(delay, plan.notBefore),
      },
    };
  }
  const { notBefore, attempts = retry.attempts } = plan.kind === 'retryable' ? plan : {};
  if (plan.kind === 'permanent' || counted[stage] >= Math.min(retry.attempts, attempts)) return giveUp();
  return {
    kind: 'retry',
    order: {
      ...order,
      updatedAt: now,
      attempts: counted,
      error: record,
      nextAttemptAt: inTime(backoff(pace, counted[stage], random), notBefore),
    },
  };
}
