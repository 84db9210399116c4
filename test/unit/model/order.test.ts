import { describe, expect, it } from 'vitest';
import { isComplete, isFinal, type Order, orderSchema, stageOf } from '#libs/model/order';
import { cancelled, deployed, failed } from '#libs/model/transitions';
import { failure, issuedOrder, pendingOrder, placedAt, validatedOrder } from '../../support/sample-orders.ts';

const orders: Record<string, [order: Order, stage: string | null, complete: boolean, final: boolean]> = {
  pending: [pendingOrder(), 'validation', false, false],
  validated: [validatedOrder(), 'issuance', false, false],
  'issued, to be deployed': [issuedOrder(), 'deployment', false, false],
  'issued, with nothing to deploy': [issuedOrder({ mode: 'none' }), null, true, true],
  deployed: [deployed(issuedOrder(), placedAt), null, true, true],
  'failed in issuance': [failed(validatedOrder(), 'issuance', failure, placedAt), 'issuance', false, true],
  'cancelled in deployment': [cancelled(issuedOrder(), placedAt), 'deployment', false, true],
};

describe('an order that is', () => {
  it.each(Object.entries(orders))('%s tells its stage and whether it is done', (_, [order, stage, complete, final]) => {
    expect(stageOf(order)).toBe(stage);
    expect(isComplete(order)).toBe(complete);
    expect(isFinal(order)).toBe(final);
  });

  it.each(Object.entries(orders))('%s comes back from its record as it was', (_, [order]) => {
    expect(orderSchema.parse(JSON.parse(JSON.stringify(order)))).toEqual(order);
  });

  it('without what its status needs is no record', () => {
    const { certificate: _gone, ...rest } = issuedOrder();
    expect(orderSchema.safeParse(rest).success).toBe(false);
    expect(orderSchema.safeParse({ ...pendingOrder(), status: 'validated' }).success).toBe(false);
  });
});
