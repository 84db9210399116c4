import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';
import type { Certificate } from '#libs/model/certificate';
import { newId } from '#libs/model/ids';
import type { Deploy, IssuedOrder } from '#libs/model/order';
import { redeployment } from '#libs/model/transitions';
import type { Producer } from '#libs/queues/producer';
import type { OrderStore } from '#libs/store/orders';
import type { CertificateStore } from '#libs/store/store';
import { type DeployBody, deployBody } from './deploy-body.ts';
import { deploymentView } from './deployment-view.ts';
import { invalid } from './field-problems.ts';
import { createHostPlans, type HostPlans, type HostPlansDeps, hostErrors, planErrors } from './host-plans.ts';
import { createOrderPlacer, idempotencyHeader, placingErrors } from './place-order.ts';
import { deployOf } from './read-deploy.ts';
import { type Route, route } from './route.ts';
import { orderView } from './views.ts';

export interface DeploymentRoutesDeps {
  certificates: Pick<CertificateStore, 'get' | 'knownThumbprints'>;
  orders: Pick<OrderStore, 'get' | 'place' | 'placedWith' | 'requireRoom'>;
  producer: Pick<Producer, 'enqueue'>;
  hosts: Pick<HostPlansDeps, 'findTarget' | 'openHost'>;
  maxOpenOrders: number;
  clock: Clock;
  log: Logger;
}

const deploymentBody = z.strictObject({ deploy: deployBody });

export function deploymentRoutes(deps: DeploymentRoutesDeps): Route[] {
  const { certificates, orders, hosts, clock } = deps;
  const place = createOrderPlacer(deps);
  const tag = 'Certificates';

  async function find(id: string | undefined): Promise<Certificate> {
    const certificate = await certificates.get(id ?? '');
    if (certificate === null) throw new CertlineError('not_found', `there is no certificate ${id}`);
    return certificate;
  }

  /** What a request asks for. An expired certificate is deployed nowhere: whoever looks at it would be turned away. */
  async function read(id: string | undefined, asked: DeployBody, plans: HostPlans) {
    const certificate = await find(id);
    const { notAfter } = certificate;
    if (notAfter <= clock.now()) {
      const detail = `the certificate expired at ${new Date(notAfter).toISOString()}: order a new one`;
      throw invalid('id', 'request_invalid', detail);
    }
    const deploy = await deployOf(asked, undefined, plans.target);
    if (deploy.mode === 'none') throw invalid('deploy.mode', 'request_invalid', 'say where to deploy it to');
    return { certificate, deploy };
  }

  async function orderOf(certificate: Certificate, deploy: Deploy): Promise<IssuedOrder> {
    const first = (await orders.get(certificate.order))?.request;
    const now = clock.now();
    return redeployment(newId('order', now), certificate, deploy, first, now);
  }

  return [
    route({
      method: 'post',
      path: '/v1/certificates/:id/deployments/preview',
      scope: 'orders:read',
      tag,
      summary: 'Look at what a deployment of a certificate would do',
      description:
        'Reads the host, or each of several, and plans its bindings. With `targets`, one that does not answer or that nothing fits on has an `error` and hides no other. Nothing is stored or changed.',
      body: deploymentBody,
      answers: {
        200: {
          description: 'What would be done, for each target',
          schema: z.object({ deployments: z.array(deploymentView) }),
        },
      },
      errors: ['not_found', ...planErrors, ...hostErrors],
      async handle({ params, body, signal }) {
        const plans = createHostPlans({ ...hosts, certificates, clock });
        const { certificate, deploy } = await read(params.id, body.deploy, plans);
        return { status: 200, json: { deployments: await plans.preview(deploy, certificate, signal) } };
      },
    }),
    route({
      method: 'post',
      path: '/v1/certificates/:id/deployments',
      scope: 'orders:write',
      tag,
      summary: 'Deploy a certificate that is there',
      description:
        'Places an order that begins at the deployment stage with this certificate. With `targets` it has an order for each of them, wave after wave.',
      headers: idempotencyHeader,
      body: deploymentBody,
      answers: { 202: { description: 'The order, with its URL in `Location`', schema: orderView } },
      errors: ['not_found', ...planErrors, ...placingErrors],
      handle: ({ params, body, headers, key, signal }) =>
        place({
          headers,
          key,
          body: { certificate: params.id, ...body },
          async make() {
            const plans = createHostPlans({ ...hosts, certificates, clock });
            const { certificate, deploy } = await read(params.id, body.deploy, plans);
            await plans.check(deploy, certificate, signal);
            return orderOf(certificate, deploy);
          },
        }),
    }),
  ];
}
