import { z } from 'zod';
import type { BulkRetry } from '../model/bulk-retry.ts';

/** What is told of a bulk retry. Of each order that it takes up there is an `order_retried` besides. */
export const bulkRetryEventTypes = ['bulk_retry_started', 'bulk_retry_completed', 'bulk_retry_cancelled'] as const;

/** One thing that happened to a bulk retry. `at` is ms since the epoch; `id` tells it from every other event of its kind. */
export const bulkRetryEventSchema = z.object({
  id: z.string(),
  bulkRetry: z.string(),
  at: z.number(),
  type: z.enum(bulkRetryEventTypes),
  detail: z.string(),
});
export type BulkRetryEvent = z.infer<typeof bulkRetryEventSchema>;

/** The event of what a bulk retry has come to. */
export function bulkRetryEvent({ id, status, matched, updatedAt: at }: BulkRetry): BulkRetryEvent {
  const type = status === 'running' ? 'bulk_retry_started' : (`bulk_retry_${status}` as const);
  return {
    id: `${id}-${status}`,
    bulkRetry: id,
    at,
    type,
    detail: `${matched} failed ${matched === 1 ? 'order' : 'orders'}`,
  };
}
