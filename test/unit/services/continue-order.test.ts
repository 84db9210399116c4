import { describe, expect, it } from 'vitest';
import type { ErrorCode } from '#libs/errors';
import { continuedByHand } from '../../../services/api/continue-order.ts';
import { failure, issuedOrder, pendingOrder, placedAt, validatedOrder } from '../../support/sample-orders.ts';

const waiting = (code: ErrorCode, more = {}) =>
  pendingOrder({ error: { ...failure, code }, nextAttemptAt: placedAt + 60_000, ...more });

describe('an order may be continued by hand', () => {
  it.each(['dns_record_awaited', 'dns_record_not_visible', 'http01_wrong_answer'] as const)(
    'when it waits with %s',
    (code) => {
      expect(continuedByHand(waiting(code), placedAt)).toMatchObject({ epoch: 2, nextAttemptAt: null });
    },
  );

  it('and is left as it is when it is due anyway', () => {
    const due = waiting('dns_record_awaited');
    expect(continuedByHand(due, placedAt + 60_000)).toBe(due);
  });

  it.each([
    ['a worker has it', pendingOrder(), 'a worker looks at it now'],
    ['it waits for the CA', waiting('ca_rate_limited'), 'waits until 2026-01-01T00:01:00.000Z after ca_rate_limited'],
    ['it is held', waiting('dns_credential_refused', { parkedOn: 'cred_1' }), 'held until cred_1 is mended'],
    ['it is validated', validatedOrder(), 'the order is validated'],
    ['it is issued', issuedOrder(), 'the order is issued'],
  ])('but not when %s', (_, order, words) => {
    expect(() => continuedByHand(order, placedAt)).toThrow(
      expect.objectContaining({ code: 'order_state_conflict', message: expect.stringContaining(words) }),
    );
  });
});
