import { asCertlineError, CertlineError } from '#libs/errors';
import { sideBySide } from '#libs/iis/side-by-side';
import type { IssuedOrder } from '#libs/model/order';
import type { DeliveryTarget, Target } from '#libs/model/target';
import { deployed } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import type { OpenedCertificate } from '#libs/service/certificate-reader';
import type { CertificateTarget } from '#libs/targets/certificate-target';
import type { OpenTarget } from './open-target.ts';

/** What a deployment may take, besides the command that may follow it. */
const usualDeadlineMs = 300_000;
/** Files of one name must not be written twice at a time, and a command reloads one server; who is told by a webhook can be told of several. */
const atOnce = { folder: 1, ccs: 1, webhook: 8 } as const satisfies Record<DeliveryTarget['kind'], number>;

type Context = Parameters<TargetHandler['run']>[2];

export interface DeliverDeps {
  findTarget(id: string): Promise<Target | null>;
  openTarget: OpenTarget;
  /** A certificate with its key and its chain (leaf first), PEM. */
  openCertificate(id: string): Promise<OpenedCertificate>;
  /** What a deployment may take without a command, ms. */
  deadlineMs?: number;
}

function deadlineOf(target: DeliveryTarget, usualMs: number): number {
  return usualMs + (target.kind === 'folder' ? (target.command?.timeoutSeconds ?? 0) * 1000 : 0);
}

/** Deployment to everything that is no IIS host: each order by itself, so that one that fails holds up no other. */
export function createDeliverHandler(deps: DeliverDeps): TargetHandler {
  const { findTarget, openTarget, openCertificate, deadlineMs = usualDeadlineMs } = deps;

  async function deliver(
    place: CertificateTarget,
    order: IssuedOrder,
    limitMs: number,
    { clock, log, signal }: Context,
  ): Promise<TargetOutcome> {
    const { id, epoch } = order;
    const deadline = AbortSignal.timeout(limitMs);
    try {
      const { certificate, privateKeyPem, chainPem } = await openCertificate(order.certificate);
      const context = { signal: AbortSignal.any([signal, deadline]), deployment: `${id}.${epoch}` };
      const { detail } = await place.deploy({ ...certificate, privateKeyPem, chainPem }, context);
      log.info({ order: id }, detail);
      return { id, deployed: deployed(order, clock.now()) };
    } catch (thrown) {
      signal.throwIfAborted();
      if (!(thrown instanceof CertlineError) && deadline.aborted)
        return { id, error: new CertlineError('target_timeout', `not done in ${limitMs / 1000} s`, { cause: thrown }) };
      return { id, error: asCertlineError(thrown) };
    }
  }

  return {
    async run(targetId, orders, context) {
      const refused = (error: CertlineError): TargetOutcome[] => orders.map(({ id }) => ({ id, error }));
      const target = await findTarget(targetId);
      if (target === null) return refused(new CertlineError('target_unknown', `there is no target ${targetId}`));
      if (target.kind === 'iis') throw new Error(`${targetId} is an IIS host: it is not for this handler`);
      let place: CertificateTarget;
      try {
        place = await openTarget(target);
      } catch (thrown) {
        return refused(asCertlineError(thrown));
      }
      const limitMs = deadlineOf(target, deadlineMs);
      return sideBySide(orders, atOnce[target.kind], (order) => deliver(place, order, limitMs, context));
    },
  };
}
