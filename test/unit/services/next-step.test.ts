import { describe, expect, it } from 'vitest';
import { CertlineError, type ErrorCode, type Plan } from '#libs/errors';
import { type Order, stageOf } from '#libs/model/order';
import { cancelled, deployed, failed } from '#libs/model/transitions';
import { afterFailure } from '#libs/queues/outcome';
import { nextStep } from '../../../services/api/next-step.ts';
import { failure, issuedOrder, pendingOrder, placedAt, validatedOrder } from '../../support/sample-orders.ts';

const now = placedAt + 60_000;

/** What is told of an order whose stage has met an error with a plan. */
function told(order: Order, plan: Plan, code: ErrorCode = 'unexpected'): string | null {
  const error = new CertlineError(code, 'words', { plan });
  return nextStep(afterFailure(order, stageOf(order) ?? 'validation', error, { now, random: 0, scale: 1 }).order);
}

describe('what happens next to an order', () => {
  it('that waits for another attempt: when, which one, and until when at the latest', () => {
    const ended = 'given up on 2026-01-09T00:00:00.000Z at the latest.';
    expect(told(pendingOrder(), { kind: 'retryable' })).toBe(
      `Tried again at 2026-01-01T00:01:04.000Z, attempt 2 of 40; ${ended}`,
    );
    expect(told(pendingOrder(), { kind: 'retryable', attempts: 8 })).toContain('attempt 2 of 8;');
    expect(told(issuedOrder(), { kind: 'retryable' }, 'target_unreachable')).toBe(
      'Tried again at 2026-01-01T00:01:12.000Z, attempt 2 of 180; given up on 2026-01-15T00:00:00.000Z at the latest.',
    );
  });

  it('that waits for a time somebody named: when, and that no attempt is used', () => {
    expect(told(validatedOrder(), { kind: 'wait', until: now + 60_000 })).toBe(
      'Looked at again at 2026-01-01T00:02:00.000Z: waiting uses no attempt; given up on 2026-01-08T00:00:00.000Z at the latest.',
    );
  });

  it('that begins anew: with which ACME order', () => {
    expect(told(validatedOrder(), { kind: 'restart' })).toContain('with ACME order 2 of 6 at the most;');
    expect(told(pendingOrder({ restarts: 1 }), { kind: 'restart', attempts: 3 })).toContain('ACME order 3 of 3');
  });

  it('that is held: for what', () => {
    expect(told(pendingOrder(), { kind: 'park' })).toBe('Held until acc_1 is mended; it then goes on by itself.');
    expect(told(pendingOrder(), { kind: 'park', on: 'cred_1' })).toContain('cred_1');
  });

  it('that is due, or in the hands of a worker', () => {
    expect(nextStep(pendingOrder())).toBe('Due: the next validation worker takes it.');
    expect(nextStep(issuedOrder(undefined, { startedAt: now }))).toBe('A worker is at it: deployment, attempt 1.');
  });

  it('that waits for its targets: in which wave', () => {
    const deployments = [
      { target: 'tgt_a', wave: 1, order: 'ord_a', status: 'deployed' as const },
      { target: 'tgt_b', wave: 2, order: 'ord_b', status: 'under way' as const },
      { target: 'tgt_c', wave: 3, order: null, status: 'waiting' as const },
    ];
    expect(nextStep(issuedOrder(undefined, { deployments }))).toContain('Wave 2 of 3 is under way');
  });

  it('that failed: from where it can be retried', () => {
    expect(nextStep(failed(issuedOrder(), 'deployment', failure, now))).toBe(
      'Nothing by itself; it can be retried from validation or deployment.',
    );
    const part = { ...failed(issuedOrder(), 'deployment', failure, now), partOf: 'ord_9' };
    expect(nextStep(part)).toBe('Nothing by itself; retry ord_9, of which it is a part.');
  });

  it('is not told of one that has ended otherwise', () => {
    const ended = [deployed(issuedOrder(), now), cancelled(pendingOrder(), now), issuedOrder({ mode: 'none' })];
    expect(ended.map(nextStep)).toEqual([null, null, null]);
  });
});
