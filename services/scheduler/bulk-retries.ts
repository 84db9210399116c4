import type { Clock } from '#libs/clock';
import { asCertlineError, CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';
import type { BulkRetry } from '#libs/model/bulk-retry';
import type { Order } from '#libs/model/order';
import { retriedByHand } from '#libs/model/retry-by-hand';
import type { Producer } from '#libs/queues/producer';
import type { BulkRetryStore } from '#libs/store/bulk-retries';
import type { OrderStore } from '#libs/store/orders';

export interface BulkRetryDeps {
  bulkRetries: Pick<BulkRetryStore, 'due' | 'get' | 'waiting' | 'isWaiting' | 'settling' | 'settle' | 'putOff' | 'end'>;
  orders: Pick<OrderStore, 'get' | 'save'>;
  producer: Pick<Producer, 'enqueue'>;
  clock: Clock;
  log: Logger;
  /** Orders of a bulk retry that are taken up in a minute. */
  perMinute: number;
  /** In [0, 1). */
  random: () => number;
}

/** What a round makes up for at the most, ms: after a time without a scheduler orders must not come in a burst. */
const catchUpMs = 5_000;

/**
 * The rounds of the bulk retries: takes up the orders whose turn it is. That an order had its turn is stored with the order itself, so that
 * each has one, whoever dies meanwhile. Answers how many were taken up; two schedulers at once do no harm.
 */
export function createBulkRetryRounds(deps: BulkRetryDeps): () => Promise<number> {
  const { bulkRetries, orders, producer, clock, log, perMinute, random } = deps;
  const intervalMs = 60_000 / perMinute;

  async function skip(bulk: BulkRetry, id: string, kind: 'skipped' | 'failed', error: CertlineError): Promise<void> {
    await bulkRetries.settle(bulk.id, id, { kind, code: error.code, detail: error.message });
  }

  /** The order as it would go on; null when it cannot, which is noted. */
  async function takenUp(bulk: BulkRetry, id: string, order: Order | null): Promise<Order | null> {
    try {
      if (order === null) throw new CertlineError('not_found', `there is no order ${id}`);
      return retriedByHand(order, bulk.from ?? undefined, clock.now());
    } catch (error) {
      await skip(bulk, id, 'skipped', asCertlineError(error));
      return null;
    }
  }

  async function retry(bulk: BulkRetry, id: string): Promise<boolean> {
    for (;;) {
      const order = await orders.get(id);
      // After the order was read: whatever came of its turn since, it has another version.
      if (!(await bulkRetries.isWaiting(bulk.id, id))) return false;
      const next = await takenUp(bulk, id, order);
      if (next === null || order === null) return false;
      const event = { type: 'order_retried', at: clock.now(), detail: `by the bulk retry ${bulk.id}` } as const;
      const saved = await orders.save(order, next, [event], bulkRetries.settling(bulk.id, id, { kind: 'retried' }));
      if (saved === null) continue;
      // Best effort: the reconciler finds what could not be enqueued.
      await producer.enqueue(saved).catch((error) => log.warn({ err: error, order: id }, 'not enqueued'));
      return true;
    }
  }

  async function goOn(bulk: BulkRetry, since: number): Promise<number> {
    const now = clock.now();
    const late = Math.min(now - since, catchUpMs);
    const turns = 1 + Math.floor(late / intervalMs);
    let count = 0;
    for (const id of await bulkRetries.waiting(bulk.id, turns)) {
      try {
        if (await retry(bulk, id)) count += 1;
      } catch (error) {
        // One that cannot be read must not hold up the others; when Redis is away, this is not stored either and it keeps its turn.
        await skip(bulk, id, 'failed', asCertlineError(error));
      }
    }
    await bulkRetries.putOff(bulk.id, Math.round(clock.now() + intervalMs * (0.5 + random())));
    if ((await bulkRetries.waiting(bulk.id, 1)).length > 0) return count;
    await bulkRetries.end(bulk.id, 'completed', clock.now());
    log.info({ bulkRetry: bulk.id, orders: bulk.matched }, 'the bulk retry is completed');
    return count;
  }

  return async () => {
    let count = 0;
    for (const { id, since } of await bulkRetries.due(clock.now())) {
      const bulk = await bulkRetries.get(id);
      // Its record has had its time.
      if (bulk === null) await bulkRetries.end(id, 'cancelled', clock.now());
      else if (bulk.status === 'running') count += await goOn(bulk, since);
    }
    return count;
  };
}
