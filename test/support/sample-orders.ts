import type { Deploy, IssuedOrder, OrderError, OrderRequest, PendingOrder, ValidatedOrder } from '#libs/model/order';
import { issued, newOrder, validated } from '#libs/model/transitions';

/** Orders to test with, all placed at `placedAt`. */
export const placedAt = Date.UTC(2026, 0, 1);
export const acmeOrder = { url: 'https://ca.test/order/1', finalize: 'https://ca.test/finalize/1', expires: null };
export const toSite: Deploy = { mode: 'site', target: 'tgt_1', site: 1 };

export function orderRequest(more: Partial<OrderRequest> = {}): OrderRequest {
  return {
    names: ['a.example.com', 'b.example.com'],
    account: 'acc_1',
    challenge: { type: 'http-01', via: 'responder' },
    challenges: [],
    keyType: 'rsa-2048',
    profile: null,
    preferredChain: null,
    source: null,
    deploy: toSite,
    ...more,
  };
}

export function pendingOrder(more: Partial<PendingOrder> = {}): PendingOrder {
  return { ...newOrder('ord_1', orderRequest(), placedAt), version: 1, ...more };
}

export function validatedOrder(more: Partial<ValidatedOrder> = {}): ValidatedOrder {
  return { ...validated(pendingOrder(), acmeOrder, placedAt), ...more };
}

export function issuedOrder(deploy: Deploy = toSite, more: Partial<IssuedOrder> = {}): IssuedOrder {
  return { ...issued(validatedOrder({ request: orderRequest({ deploy }) }), 'crt_1', placedAt), ...more };
}

export const failure: OrderError = { code: 'ca_unavailable', detail: 'busy', stage: 'validation', at: placedAt };
