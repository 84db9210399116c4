import { CertlineError, type ErrorCode } from '#libs/errors';
import type { Order } from '#libs/model/order';
import { continued } from '#libs/model/transitions';

/** What a look of ours has found, and may find mended: not what the CA says, which is asked again when it says. */
const found = new Set<ErrorCode>([
  ...(['dns_record_awaited', 'dns_record_not_visible', 'dns_delegation_lame', 'dns_lookup_failed'] as const),
  ...(['http01_unreachable', 'http01_wrong_answer', 'ca_budget_spent'] as const),
]);

/** The order due at once instead of later; throws `order_state_conflict` when it does not wait for something that can be looked at. */
export function continuedByHand(order: Order, now: number): Order {
  const { status, parkedOn, nextAttemptAt, error } = order;
  const conflict = (why: string) => new CertlineError('order_state_conflict', why);
  if (status !== 'pending')
    throw conflict(`the order is ${status}: it waits for nothing that could be looked at again`);
  if (parkedOn !== null) throw conflict(`the order is held until ${parkedOn} is mended, and goes on by itself then`);
  if (nextAttemptAt === null) throw conflict('the order does not wait: a worker looks at it now, or is about to');
  if (error === null || !found.has(error.code)) {
    const until = new Date(nextAttemptAt).toISOString();
    throw conflict(`the order waits until ${until} after ${error?.code ?? 'a failure'}, which no look makes shorter`);
  }
  return nextAttemptAt <= now ? order : continued(order, now);
}
