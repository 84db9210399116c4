import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { asCertlineError, CertlineError } from '#libs/errors';
import { type BulkRetry, type BulkRetryResult, bulkRetryStatuses } from '#libs/model/bulk-retry';
import { newId } from '#libs/model/ids';
import { type StageName, stageNames, stageOf } from '#libs/model/order';
import { retriedByHand } from '#libs/model/retry-by-hand';
import type { BulkRetryStore } from '#libs/store/bulk-retries';
import type { OrderStore } from '#libs/store/orders';
import { filterFields, refuseConditions } from './order-filter.ts';
import { idempotencyHeader, idempotencyOf } from './place-order.ts';
import { type Route, type RouteAnswer, route } from './route.ts';

export interface BulkRetryRoutesDeps {
  bulkRetries: Pick<BulkRetryStore, 'placedWith' | 'place' | 'get' | 'results' | 'end'>;
  orders: Pick<OrderStore, 'failed' | 'get'>;
  clock: Clock;
  /** Orders of one bulk retry at the most. */
  most: number;
}

const tag = 'Orders';
const time = z.iso.datetime();
const iso = (ms: number): string => new Date(ms).toISOString();

const filterBody = z
  .strictObject({ status: z.literal('failed').optional(), ...filterFields })
  .superRefine((filter, context) => {
    if (filter.status === undefined && filter.code === undefined)
      context.addIssue({ code: 'custom', message: 'say at least `"status": "failed"`, or a `code`' });
    refuseConditions({ ...filter, status: 'failed' }, context);
  });

const filterView = z.object({
  ...{ status: z.literal('failed'), code: z.string().optional(), account: z.string().optional() },
  ...{ target: z.string().optional(), name: z.string().optional() },
  ...{ since: time.optional(), until: time.optional() },
});
const unretried = z.array(z.object({ order: z.string(), code: z.string(), detail: z.string() }));
const bulkRetryView = z.object({
  id: z.string(),
  status: z.enum(bulkRetryStatuses),
  filter: filterView,
  from: z.enum(stageNames).nullable().describe('Null: each from the latest stage that is possible'),
  matched: z.number().int().describe('Failed orders that it is for: those there were when it was asked for'),
  more: z.boolean().describe('Whether more matched than its `limit`: ask again for those'),
  retried: z.number().int(),
  left: z.number().int().describe('Those whose turn has not come, or will not after a cancel'),
  skipped: unretried.describe('Orders that could not be retried so'),
  failed: unretried.describe('Orders that could not be looked at'),
  createdAt: time,
  updatedAt: time,
});
const dryRunView = z.object({
  matched: z.number().int(),
  more: z.boolean(),
  orders: z.array(
    z.object({
      order: z.string(),
      names: z.array(z.string()),
      error: z.object({ code: z.string(), detail: z.string() }).nullable().describe('Why it failed'),
      from: z
        .enum(stageNames)
        .nullable()
        .describe('The stage it would be taken up from; null when it would be skipped'),
      skipped: z.object({ code: z.string(), detail: z.string() }).nullable().describe('Why it would be skipped'),
    }),
  ),
});

function viewBulkRetry(bulk: BulkRetry, results: ReadonlyMap<string, BulkRetryResult>): z.input<typeof bulkRetryView> {
  const { id, status, filter, from, matched, more, createdAt, updatedAt } = bulk;
  const { since, until, ...conditions } = filter;
  // The newest first, as in lists.
  const settled = [...results].toSorted(([one], [other]) => (one < other ? 1 : -1));
  const those = (kind: 'skipped' | 'failed') =>
    settled.flatMap(([order, one]) => (one.kind === kind ? [{ order, code: one.code, detail: one.detail }] : []));
  return {
    ...{ id, status, from, matched, more },
    filter: {
      ...{ status: 'failed', ...conditions },
      ...(since === undefined ? {} : { since: iso(since) }),
      ...(until === undefined ? {} : { until: iso(until) }),
    },
    retried: settled.filter(([, { kind }]) => kind === 'retried').length,
    left: matched - results.size,
    ...{ skipped: those('skipped'), failed: those('failed') },
    ...{ createdAt: iso(createdAt), updatedAt: iso(updatedAt) },
  };
}

/** Failed orders that are retried all at once, at a gentle pace. */
export function bulkRetryRoutes({ bulkRetries, orders, clock, most }: BulkRetryRoutesDeps): Route[] {
  const body = z.strictObject({
    filter: filterBody,
    from: z
      .enum(stageNames)
      .optional()
      .describe('The stage to take them up from; of each the latest possible by default'),
    limit: z.number().int().min(1).max(most).default(most).describe('Orders at the most, the newest first'),
    dryRun: z.boolean().default(false).describe('Tells what would be retried, and changes nothing'),
  });

  async function answerOf(bulk: BulkRetry, status: number): Promise<RouteAnswer> {
    const headers = { location: `/v1/orders/retry/${bulk.id}` };
    return { status, json: viewBulkRetry(bulk, await bulkRetries.results(bulk.id)), headers };
  }

  async function find(id = ''): Promise<BulkRetry> {
    const bulk = await bulkRetries.get(id);
    if (bulk === null) throw new CertlineError('not_found', `there is no bulk retry ${id}; they are kept for 30 days`);
    return bulk;
  }

  async function trial(id: string, from: StageName | undefined) {
    const order = await orders.get(id);
    const { request, error = null } = order ?? {};
    const about = {
      ...{ order: id, names: request?.names ?? [] },
      error: error === null ? null : { code: error.code, detail: error.detail },
    };
    try {
      if (order === null) throw new CertlineError('not_found', `there is no order ${id}`);
      return { ...about, from: stageOf(retriedByHand(order, from, clock.now())), skipped: null };
    } catch (thrown) {
      const { code, message: detail } = asCertlineError(thrown);
      return { ...about, from: null, skipped: { code, detail } };
    }
  }

  return [
    route({
      method: 'post',
      path: '/v1/orders/retry',
      scope: 'orders:write',
      tag,
      summary: 'Take failed orders up again',
      description:
        'Those that match `filter` now, one after the other at a gentle pace. Each is retried once, also when it fails again meanwhile.',
      headers: idempotencyHeader,
      body,
      answers: {
        200: { description: 'What would be retried (`dryRun`)', schema: dryRunView },
        202: { description: 'The bulk retry, with its URL in `Location`', schema: bulkRetryView },
      },
      errors: ['idempotency_key_reused'],
      async handle(request) {
        const { filter, from, limit, dryRun } = request.body;
        const { status: _failed, ...conditions } = filter;
        if (dryRun) {
          const { ids, more } = await orders.failed(conditions, limit);
          const trials = await Promise.all(ids.map((id) => trial(id, from)));
          return { status: 200, json: { matched: ids.length, more, orders: trials } };
        }
        const idempotency = idempotencyOf(request);
        const earlier = idempotency ? await bulkRetries.placedWith(idempotency) : null;
        if (earlier) return answerOf(earlier, 202);
        const { ids, more } = await orders.failed(conditions, limit);
        const now = clock.now();
        const bulk: BulkRetry = {
          ...{ id: newId('bulkRetry', now), createdAt: now, updatedAt: now, status: 'running' },
          ...{ filter: conditions, from: from ?? null, matched: ids.length, more },
        };
        return answerOf(await bulkRetries.place(bulk, ids, idempotency), 202);
      },
    }),
    route({
      method: 'get',
      path: '/v1/orders/retry/:id',
      scope: 'orders:read',
      tag,
      summary: 'Read a bulk retry',
      answers: { 200: { description: 'How far it is', schema: bulkRetryView } },
      errors: ['not_found'],
      handle: async ({ params }) => answerOf(await find(params.id), 200),
    }),
    route({
      method: 'post',
      path: '/v1/orders/retry/:id/cancel',
      scope: 'orders:write',
      tag,
      summary: 'Call a bulk retry off',
      description: 'Orders that were taken up already go on.',
      answers: { 200: { description: 'The bulk retry', schema: bulkRetryView } },
      errors: ['not_found', 'order_state_conflict'],
      async handle({ params }) {
        const { id } = await find(params.id);
        const ended = await bulkRetries.end(id, 'cancelled', clock.now());
        if (ended?.status === 'completed')
          throw new CertlineError('order_state_conflict', 'the bulk retry is completed: there is nothing to call off');
        return answerOf(ended ?? (await find(id)), 200);
      },
    }),
  ];
}
