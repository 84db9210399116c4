import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';
import type { Account } from '#libs/model/account';
import type { Credential } from '#libs/model/credential';
import { newId } from '#libs/model/ids';
import type { Target } from '#libs/model/target';
import type { Producer } from '#libs/queues/producer';
import type { DriftReports } from '#libs/store/drift-reports';
import type { ExpectationStore } from '#libs/store/expectations';
import type { OrderStore } from '#libs/store/orders';
import type { RecordStore } from '#libs/store/records';
import type { UndoRecords } from '#libs/store/undo-records';
import { invalid } from './field-problems.ts';
import { hostErrors } from './host-plans.ts';
import type { OpenHost } from './hosts.ts';
import { type Route, route } from './route.ts';
import { changedTarget, checkCredentials, isSameTarget, targetBody, targetChange } from './target-bodies.ts';
import { sitesAnswer, sitesQuery, sitesView } from './target-sites.ts';
import { pageOf, pageQuery, targetView, viewTarget } from './views.ts';
import { releaseWaiting } from './waiting-orders.ts';

export interface TargetRoutesDeps {
  targets: RecordStore<Target>;
  credentials: Pick<RecordStore<Credential>, 'get'>;
  accounts: Pick<RecordStore<Account>, 'get'>;
  orders: Pick<OrderStore, 'unfinishedAt' | 'answeredAt' | 'get' | 'save'>;
  producer: Pick<Producer, 'wakeTarget'>;
  undo: Pick<UndoRecords, 'has'>;
  expectations: Pick<ExpectationStore, 'dropTarget'>;
  driftReports: Pick<DriftReports, 'removing'>;
  openHost: OpenHost;
  clock: Clock;
  log: Logger;
}

const testView = z.object({
  ok: z.boolean(),
  steps: z.array(z.object({ step: z.string(), ok: z.boolean(), detail: z.string() })),
});

/** Orders that are named where a target cannot be deleted. */
const namedOrders = 5;

/** Throws `record_in_use` with unfinished orders that need a target for something. */
function refuseUsed(what: string, unfinished: readonly string[]): void {
  if (unfinished.length === 0) return;
  const named = unfinished.toSorted().slice(0, namedOrders).join(', ');
  const more = unfinished.length > namedOrders ? ` and ${unfinished.length - namedOrders} more` : '';
  throw new CertlineError('record_in_use', `unfinished orders ${what}: ${named}${more}`);
}

export function targetRoutes(deps: TargetRoutesDeps): Route[] {
  const { targets, credentials, accounts, orders, producer, undo, openHost, clock, log } = deps;
  const { expectations, driftReports } = deps;
  const tag = 'Targets';

  async function find(id: string | undefined): Promise<Target> {
    const target = await targets.get(id ?? '');
    if (target === null) throw new CertlineError('not_found', `there is no target ${id}`);
    return target;
  }
  const nameTaken = (detail: string): CertlineError => invalid('name', 'name_taken', detail);

  return [
    route({
      method: 'post',
      path: '/v1/targets',
      scope: 'admin',
      tag,
      summary: 'Name a place to deploy to',
      body: targetBody,
      answers: {
        201: { description: 'The new target', schema: targetView },
        200: { description: 'The same target was there', schema: targetView },
      },
      errors: ['request_invalid', 'credential_unknown', 'name_taken'],
      async handle({ body }) {
        await checkCredentials(body, credentials);
        const now = clock.now();
        const { record, created } = await targets.create({ id: newId('target', now), ...body, createdAt: now });
        if (!created && !isSameTarget(record, body)) {
          const detail = `${record.id} has the name ${body.name} and other settings`;
          throw nameTaken(`${detail}; PATCH /v1/targets/${record.id} changes them`);
        }
        return {
          status: created ? 201 : 200,
          json: viewTarget(record),
          headers: { location: `/v1/targets/${record.id}` },
        };
      },
    }),
    route({
      method: 'get',
      path: '/v1/targets',
      scope: 'orders:read',
      tag,
      summary: 'List targets',
      query: pageQuery,
      answers: { 200: { description: 'A page of targets', schema: pageOf(targetView) } },
      async handle({ query }) {
        const { records, cursor } = await targets.list(query);
        return { status: 200, json: { items: records.map(viewTarget), cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/targets/:id',
      scope: 'orders:read',
      tag,
      summary: 'Read a target',
      answers: { 200: { description: 'The target', schema: targetView } },
      errors: ['not_found'],
      handle: async ({ params }) => ({ status: 200, json: viewTarget(await find(params.id)) }),
    }),
    route({
      method: 'patch',
      path: '/v1/targets/:id',
      scope: 'admin',
      tag,
      summary: 'Change a target',
      description:
        'What is left out stays; the kind does in any case. Another `transport.host` is another machine: the pinned host key goes unless a new one is given.',
      body: targetChange,
      answers: { 200: { description: 'The changed target', schema: targetView } },
      errors: ['not_found', 'credential_unknown', 'name_taken'],
      async handle({ params, body }) {
        const before = await find(params.id);
        await checkCredentials(changedTarget(before, body), credentials);
        const changed = await targets
          .update(before.id, (target) => changedTarget(target, body))
          .catch((error: unknown) => {
            if (error instanceof CertlineError && error.code === 'name_taken') throw nameTaken(error.message);
            throw error;
          });
        if (changed === null) throw new CertlineError('not_found', `there is no target ${params.id}`);
        // What is due there may be in the queue of the pool that it had, or wait for what was mended.
        await (body.windows ? releaseWaiting(orders, changed.id, clock.now()) : Promise.resolve())
          .then(() => producer.wakeTarget(changed.id))
          .catch((error: unknown) =>
            log.warn({ err: error, target: changed.id }, 'not woken: the reconciler will do it'),
          );
        return { status: 200, json: viewTarget(changed) };
      },
    }),
    route({
      method: 'delete',
      path: '/v1/targets/:id',
      scope: 'admin',
      tag,
      summary: 'Delete a target',
      description:
        'Nothing changes on the host. Refused while unfinished orders are to be deployed there or have their challenges answered by it, or a commit to the host is not verified yet.',
      answers: { 200: { description: 'The target as it was', schema: targetView } },
      errors: ['not_found', 'record_in_use'],
      async handle({ params }) {
        const target = await find(params.id);
        refuseUsed('are to be deployed there', await orders.unfinishedAt(target.id));
        refuseUsed('have their challenges answered by its host', await orders.answeredAt(target.id));
        if (await undo.has(target.id)) {
          const detail =
            'a commit to its host is not verified yet; the deployment worker settles it: try again in some minutes';
          throw new CertlineError('record_in_use', detail);
        }
        await targets.remove(target.id, [expectations.dropTarget(target.id), ...driftReports.removing(target.id)]);
        return { status: 200, json: viewTarget(target) };
      },
    }),
    route({
      method: 'post',
      path: '/v1/targets/:id/test',
      scope: 'admin',
      tag,
      summary: 'Try whether a target can be deployed to',
      description:
        'Step by step, up to the first that fails. Nothing is changed on an IIS host; in a folder a file is written and removed, a webhook gets the event `target.test`.',
      answers: { 200: { description: 'What works', schema: testView } },
      errors: ['not_found'],
      async handle({ params, signal }) {
        const target = await find(params.id);
        const steps = await openHost(target)
          .test(signal)
          .catch((error: unknown) => {
            if (!(error instanceof CertlineError)) throw error;
            return [{ step: 'connect', ok: false, detail: `${error.code}: ${error.message}` }];
          });
        return { status: 200, json: { ok: steps.every(({ ok }) => ok), steps } };
      },
    }),
    route({
      method: 'get',
      path: '/v1/targets/:id/sites',
      scope: 'orders:read',
      tag,
      summary: 'Read the sites and bindings of a target, and the names that certificates could be ordered for',
      query: sitesQuery,
      answers: { 200: { description: 'Its IIS sites', schema: sitesView } },
      errors: ['not_found', 'request_invalid', 'account_unknown', 'pool_unserved', ...hostErrors],
      async handle({ params, query, signal }) {
        const target = await find(params.id);
        if (target.kind !== 'iis')
          throw invalid('id', 'request_invalid', `${target.id} is of kind ${target.kind}: it has no sites`);
        const account = query.account === undefined ? null : await accounts.get(query.account);
        if (query.account !== undefined && account === null)
          throw invalid('account', 'account_unknown', `there is no account ${query.account}`);
        return { status: 200, json: sitesAnswer(await openHost(target).read(signal), account) };
      },
    }),
  ];
}
