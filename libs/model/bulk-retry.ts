import { z } from 'zod';
import { errorCodeSchema, stageNames } from './order.ts';

/** Which failed orders are meant: all conditions that are given hold. Times are ms since the epoch. */
export const failedOrderFilterSchema = z.object({
  code: z.string().optional(),
  account: z.string().optional(),
  /** A target that the order was to deploy to. */
  target: z.string().optional(),
  name: z.string().optional(),
  /** Placed at this time or later. */
  since: z.number().optional(),
  /** Placed before this time. */
  until: z.number().optional(),
});
export type FailedOrderFilter = z.infer<typeof failedOrderFilterSchema>;

export const bulkRetryStatuses = ['running', 'completed', 'cancelled'] as const;

/** Failed orders that are taken up again one after the other because a person says so once. Which, is fixed when it is asked for. */
export const bulkRetrySchema = z.object({
  id: z.string(),
  createdAt: z.number(),
  updatedAt: z.number(),
  filter: failedOrderFilterSchema,
  /** The stage to take them up from; null for the latest that each can be. */
  from: z.enum(stageNames).nullable(),
  status: z.enum(bulkRetryStatuses),
  /** Orders it is for. */
  matched: z.number().int(),
  /** Whether others matched that went over its limit. */
  more: z.boolean(),
});
export type BulkRetry = z.infer<typeof bulkRetrySchema>;

/** What became of one of the orders; those that still wait for their turn have none. */
export const bulkRetryResultSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('retried') }),
  /** It cannot be retried so, or is no longer there to be. */
  z.object({ kind: z.literal('skipped'), code: errorCodeSchema, detail: z.string() }),
  /** It could not be looked at. */
  z.object({ kind: z.literal('failed'), code: errorCodeSchema, detail: z.string() }),
]);
export type BulkRetryResult = z.infer<typeof bulkRetryResultSchema>;
