import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { IisHost } from '#libs/iis/iis-host';
import { newId } from '#libs/model/ids';
import { type Target, transportSchema } from '#libs/model/target';
import type { RecordStore } from '#libs/store/records';
import { hostNamesOf } from './order-intake.ts';
import { type Route, route } from './route.ts';
import { pageOf, pageQuery, targetView, viewTarget } from './views.ts';

export interface TargetRoutesDeps {
  targets: RecordStore<Target>;
  openHost(target: Target): IisHost;
  clock: Clock;
}

const targetBody = z.strictObject({
  name: z.string().min(1).max(100),
  kind: z.literal('iis'),
  transport: transportSchema,
});

const siteView = z.object({
  id: z.number(),
  name: z.string(),
  state: z.string(),
  hostNames: z.array(z.string()).describe('Names an order from this site would ask for'),
  bindings: z.array(
    z.object({
      protocol: z.string(),
      bindingInformation: z.string(),
      sslFlags: z.number(),
      thumbprint: z.string().nullable(),
      store: z.string().nullable(),
    }),
  ),
});

export function targetRoutes({ targets, openHost, clock }: TargetRoutesDeps): Route[] {
  async function find(id: string | undefined): Promise<Target> {
    const target = await targets.get(id ?? '');
    if (target === null) throw new CertlineError('not_found', `there is no target ${id}`);
    return target;
  }
  const tag = 'Targets';

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
      errors: ['request_invalid', 'name_taken'],
      async handle({ body }) {
        const now = clock.now();
        const { record, created } = await targets.create({ id: newId('target', now), ...body, createdAt: now });
        if (!created && JSON.stringify(record.transport) !== JSON.stringify(body.transport)) {
          throw new CertlineError('name_taken', `${record.id} has the name ${body.name} and another transport`);
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
      method: 'get',
      path: '/v1/targets/:id/sites',
      scope: 'orders:read',
      tag,
      summary: 'Read the sites and bindings of a target',
      answers: { 200: { description: 'Its IIS sites', schema: z.object({ items: z.array(siteView) }) } },
      errors: ['not_found', 'target_unreachable'],
      async handle({ params, signal }) {
        const state = await openHost(await find(params.id)).read(signal);
        const items = state.sites.map(({ id, name, state: siteState, bindings }) => ({
          id,
          name,
          state: siteState,
          hostNames: hostNamesOf(state, id),
          bindings,
        }));
        return { status: 200, json: { items } };
      },
    }),
  ];
}
