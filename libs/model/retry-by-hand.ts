import { CertlineError } from '../errors.ts';
import type { FailedOrder, Order, StageName } from './order.ts';
import { retried } from './transitions.ts';

/** Stages a failed order can be taken up from, the latest one last. */
export function retryableStages({ certificate, request, stage, acmeOrder, error }: FailedOrder): StageName[] {
  if (certificate !== null) return request.deploy.mode === 'none' ? ['validation'] : ['validation', 'deployment'];
  // One that the CA has given up gives no certificate any more.
  if (stage === 'issuance' && acmeOrder !== null && error.plan !== 'restart') return ['validation', 'issuance'];
  return ['validation'];
}

const conflict = (detail: string, path?: string): CertlineError =>
  new CertlineError('order_state_conflict', detail, {
    ...(path === undefined ? {} : { problems: [{ path, code: 'order_state_conflict' as const, detail }] }),
  });

/** A part goes with its rollout: what is done to it alone, the rollout would not know. */
export function refusePart({ id, partOf }: Order, what: string): void {
  if (partOf !== null) throw conflict(`${id} is a part of ${partOf}: ${what} that one`);
}

/**
 * A failed order taken up again because a person says so, from the latest stage that is possible unless `from` names another. Throws
 * `order_state_conflict`, which names `from` and what is possible when that is what is wrong.
 */
export function retriedByHand(order: Order, from: StageName | undefined, now: number): Order {
  refusePart(order, 'retry');
  if (order.status !== 'failed') throw conflict(`the order is ${order.status}; only a failed one can be retried`);
  const possible = retryableStages(order);
  const stage = from ?? possible.at(-1) ?? 'validation';
  if (!possible.includes(stage))
    throw conflict(`it can be retried from ${possible.join(' or ')}, not from ${stage}`, 'from');
  return retried(order, stage, now);
}
