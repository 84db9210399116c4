import { z } from 'zod';
import { errorCodes } from '#libs/error-codes';
import { CertlineError, type ErrorCode } from '#libs/errors';
import type { Logger } from '#libs/logging';
import { type DriftReport, differenceSchema, driftReportSchema, driftStates } from '#libs/model/drift';
import type { Target } from '#libs/model/target';
import type { DriftRepairs } from '#libs/queues/drift-repairs';
import type { HostRequests } from '#libs/queues/host-requests';
import type { DriftReports } from '#libs/store/drift-reports';
import type { ExpectationStore } from '#libs/store/expectations';
import type { RecordStore } from '#libs/store/records';
import { refusal } from './field-problems.ts';
import { type Route, route } from './route.ts';
import { orderView, pageOf, pageQuery, viewOrder } from './views.ts';

export interface DriftRoutesDeps {
  targets: Pick<RecordStore<Target>, 'get'>;
  requests: Pick<HostRequests, 'drift'>;
  driftReports: Pick<DriftReports, 'get' | 'list'>;
  expectations: Pick<ExpectationStore, 'of' | 'forget'>;
  repairs: DriftRepairs;
  log: Logger;
}

const time = z.iso.datetime();
const iso = (ms: number): string => new Date(ms).toISOString();

export const driftView = driftReportSchema.extend({
  state: z
    .enum(driftStates)
    .describe(
      '`nothing`: no certificate of certline is to be there; `unknown`: it cannot be looked at, `error` says why',
    ),
  checkedAt: time,
  since: time.describe('Since when it has been in this state, as far as looks tell'),
  places: z.number().int().describe('Places looked at'),
  differences: z.array(
    differenceSchema.extend({
      place: z.string().describe('On an IIS host `site id|protocol|binding`, else the name of a file or folder'),
      unrepairable: z.string().nullable().describe('Why a repair would leave it as it is'),
    }),
  ),
  error: z.object({ code: z.string(), detail: z.string(), advice: z.string().describe('What to do next') }).nullable(),
});

/** A report as the API shows it. */
export function viewDrift({ checkedAt, since, error, ...report }: DriftReport): z.input<typeof driftView> {
  return {
    ...report,
    checkedAt: iso(checkedAt),
    since: iso(since),
    error: error === null ? null : { ...error, advice: errorCodes[error.code].advice },
  };
}

const repairView = z.object({
  orders: z.array(orderView).describe('One for each deployment whose places differ'),
  left: z.array(z.object({ place: z.string(), reason: z.string() })).describe('Places that stay as they are'),
});

const oneQuery = z.strictObject({
  last: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true')
    .describe('`true`: what the last look found, without touching the target'),
});
const listQuery = pageQuery.extend({ state: z.enum(driftStates).optional() });
const acceptBody = z
  .strictObject({
    places: z.array(z.string()).min(1).max(10_000).optional().describe('Of the report; all that differ by default'),
  })
  .optional();

/** What a look may answer instead of a report. */
const lookErrors: ErrorCode[] = [
  ...(['not_found', 'pool_unserved', 'target_unreachable', 'target_timeout', 'deployment_under_way'] as const),
];

export function driftRoutes(deps: DriftRoutesDeps): Route[] {
  const { targets, requests, driftReports, expectations, repairs, log } = deps;
  const tag = 'Drift';
  const report = { description: 'What the look found', schema: driftView };

  async function find(id: string | undefined): Promise<Target> {
    const target = await targets.get(id ?? '');
    if (target === null) throw new CertlineError('not_found', `there is no target ${id}`);
    return target;
  }

  /** A look for a change by hand: what cannot be looked at cannot be judged. */
  async function lookToChange(target: Target, signal: AbortSignal): Promise<DriftReport> {
    const found = await requests.drift(target, signal);
    if (found.error !== null) throw new CertlineError(found.error.code, found.error.detail);
    return found;
  }

  return [
    route({
      method: 'get',
      path: '/v1/targets/:id/drift',
      scope: 'orders:read',
      tag,
      summary: 'Compare a target with what it should be',
      description:
        'Looks now, through a deployment worker of its pool, and keeps what was found as the report of the target. Nothing is changed there.',
      query: oneQuery,
      answers: { 200: report },
      errors: [...lookErrors, 'request_invalid'],
      async handle({ params, query, signal }) {
        const target = await find(params.id);
        if (!query.last) return { status: 200, json: viewDrift(await requests.drift(target, signal)) };
        const last = await driftReports.get(target.id);
        if (last !== null) return { status: 200, json: viewDrift(last) };
        const detail = `nobody has looked at ${target.name} yet: leave out \`last\` to do it now`;
        throw new CertlineError('not_found', detail);
      },
    }),
    route({
      method: 'get',
      path: '/v1/drift',
      scope: 'orders:read',
      tag,
      summary: 'List what the last looks at the targets found',
      description: 'Those whose state is the newest first.',
      query: listQuery,
      answers: { 200: { description: 'A page of reports', schema: pageOf(driftView) } },
      errors: ['request_invalid'],
      async handle({ query }) {
        const { reports, cursor } = await driftReports.list(query);
        return { status: 200, json: { items: reports.map(viewDrift), cursor } };
      },
    }),
    route({
      method: 'post',
      path: '/v1/targets/:id/drift/repair',
      scope: 'orders:write',
      tag,
      summary: 'Put right what is not as it should be',
      description:
        'Looks now and places an order for each deployment whose places differ, whatever `drift` of the target says. Sent twice it places none twice.',
      answers: { 202: { description: 'The orders, and the places that are left', schema: repairView } },
      errors: lookErrors,
      async handle({ params, signal }) {
        const target = await find(params.id);
        const { orders, left } = await repairs.place(target, await lookToChange(target, signal), 'request');
        return { status: 202, json: { orders: orders.map((order) => viewOrder(order)), left } };
      },
    }),
    route({
      method: 'post',
      path: '/v1/targets/:id/drift/accept',
      scope: 'orders:write',
      tag,
      summary: 'Accept what was changed by hand',
      description:
        'What differs is no longer expected to be there, until the next deployment to it. Looks before and after, and answers the new report.',
      body: acceptBody,
      bodyLimit: 4 << 20,
      answers: { 200: report },
      errors: lookErrors,
      async handle({ params, body, signal }) {
        const target = await find(params.id);
        const { differences } = await lookToChange(target, signal);
        const differing = new Map(differences.map((one) => [one.place, one]));
        const asked = body?.places ?? [...differing.keys()];
        const problems = asked.flatMap((place, at) => {
          const detail = `${place} is not among the differences: take \`place\` of the report`;
          return differing.has(place) ? [] : [{ path: `places[${at}]`, code: 'request_invalid', detail } as const];
        });
        if (problems.length > 0) throw refusal(problems);
        const places = new Set(asked);
        const accepted = (await expectations.of(target.id)).filter(({ place, order, certificate }) => {
          const seen = places.has(place) ? differing.get(place) : undefined;
          return seen?.order === order && seen.certificate === certificate;
        });
        await expectations.forget(target.id, accepted);
        if (accepted.length > 0)
          log.info({ target: target.id, places: accepted.map(({ place }) => place) }, 'drift was accepted');
        return { status: 200, json: viewDrift(await requests.drift(target, signal)) };
      },
    }),
  ];
}
