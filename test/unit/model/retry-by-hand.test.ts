import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { FailedOrder, Order, StageName } from '#libs/model/order';
import { retriedByHand, retryableStages } from '#libs/model/retry-by-hand';
import { cancelled, deployed, failed } from '#libs/model/transitions';
import { failure, issuedOrder, pendingOrder, placedAt, validatedOrder } from '../../support/sample-orders.ts';

const now = placedAt + 60_000;
const inValidation = failed(pendingOrder(), 'validation', failure, placedAt);
const inIssuance = failed(validatedOrder(), 'issuance', failure, placedAt);
const inDeployment = failed(issuedOrder(), 'deployment', failure, placedAt);
const statusAfter: Record<StageName, Order['status']> = {
  validation: 'pending',
  issuance: 'validated',
  deployment: 'issued',
};

/** What a retry throws. */
function refusal(order: Order, from?: StageName): unknown {
  try {
    return retriedByHand(order, from, now);
  } catch (error) {
    return error;
  }
}

describe.each<[string, FailedOrder, StageName[]]>([
  ['in validation', inValidation, ['validation']],
  ['in issuance, with an ACME order that is open', inIssuance, ['validation', 'issuance']],
  [
    'in issuance, with one that the CA has given up',
    { ...inIssuance, error: { ...failure, plan: 'restart' } },
    ['validation'],
  ],
  ['in issuance, without one', { ...inIssuance, acmeOrder: null }, ['validation']],
  ['in deployment', inDeployment, ['validation', 'deployment']],
  [
    'with a certificate and nothing to deploy',
    failed(issuedOrder({ mode: 'none' }), 'issuance', failure, 0),
    ['validation'],
  ],
])('an order that failed %s', (_, order, possible) => {
  it(`can be retried from ${possible.join(' and ')}, the latest by default`, () => {
    expect(retryableStages(order)).toEqual(possible);
    for (const from of possible)
      expect(retriedByHand(order, from, now)).toMatchObject({ status: statusAfter[from], epoch: 2, error: null });
    expect(retriedByHand(order, undefined, now).status).toBe(statusAfter[possible.at(-1) ?? 'validation']);
  });

  it('from no other stage: the error names `from` and what is possible', () => {
    for (const from of (['validation', 'issuance', 'deployment'] as const).filter((one) => !possible.includes(one))) {
      const detail = `it can be retried from ${possible.join(' or ')}, not from ${from}`;
      const expected = new CertlineError('order_state_conflict', detail, {
        problems: [{ path: 'from', code: 'order_state_conflict', detail }],
      });
      expect(refusal(order, from)).toEqual(expected);
    }
  });
});

describe('an order that has not failed', () => {
  it.each([
    pendingOrder(),
    validatedOrder(),
    issuedOrder(),
    deployed(issuedOrder(), now),
    cancelled(pendingOrder(), now),
  ])('cannot be retried: $status', (order) => {
    expect(refusal(order)).toMatchObject({
      code: 'order_state_conflict',
      message: `the order is ${order.status}; only a failed one can be retried`,
    });
  });
});

it('a part of a rollout is retried with the whole', () => {
  expect(refusal({ ...inDeployment, partOf: 'ord_whole' })).toMatchObject({
    code: 'order_state_conflict',
    message: 'ord_1 is a part of ord_whole: retry that one',
  });
});
