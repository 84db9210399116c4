import type { OrderEvent } from '#libs/store/order-events';
import type { Tally } from './tally.ts';

const workerOf = { validation: 'validation-worker', issuance: 'issuance-worker', deployment: 'deployment-worker' };
/** What ends a run of a stage. */
const ends = new Set<OrderEvent['type']>([
  ...(['stage_completed', 'attempt_failed', 'stage_waiting', 'order_restarted'] as const),
  ...(['order_parked', 'order_failed', 'order_cancelled'] as const),
]);

/** Kills of a service, at some time between two. */
const killsOf = (tally: Tally, kind: string, from: number, to: number): number[] =>
  tally.kills.filter(({ part, at }) => part.startsWith(`${kind}-`) && at >= from && at <= to).map(({ at }) => at);

export interface Recovery {
  /** What was in hand of what: `validation of ord_…`. */
  what: string;
  ms: number;
}

/**
 * How long it took, in ms, until what a killed process had in hand was in the hands of another: from the SIGKILL to the next start of the
 * stage, and from the SIGKILL of what had stored an order, an API or for a part of a rollout a worker, to the first start.
 *
 * @param placer kind of process that has placed the order
 */
export function recoveriesOf(events: readonly OrderEvent[], tally: Tally, placer: string): Recovery[] {
  const found: Recovery[] = [];
  let open: OrderEvent | null = null;
  for (const event of events) {
    if (event.type === 'order_placed') open = event;
    else if (ends.has(event.type)) open = null;
    else if (event.type === 'stage_started' && event.stage) {
      if (open) {
        const kind = open.type === 'order_placed' ? placer : workerOf[event.stage];
        const [killed] = killsOf(tally, kind, open.at, event.at);
        if (killed !== undefined)
          found.push({ what: `${kind}: ${event.stage} of ${event.order}`, ms: event.at - killed });
      }
      open = event;
    }
  }
  return found;
}
