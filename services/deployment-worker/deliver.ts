import { asCertlineError, CertlineError } from '#libs/errors';
import type { Certificate } from '#libs/model/certificate';
import type { Expectation } from '#libs/model/drift';
import { type IssuedOrder, isForOneTarget } from '#libs/model/order';
import type { DeliveryTarget, Target } from '#libs/model/target';
import { deployed } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import type { OpenedCertificate } from '#libs/service/certificate-reader';
import { sideBySide } from '#libs/side-by-side';
import type { ExpectationStore } from '#libs/store/expectations';
import type { OrderStore } from '#libs/store/orders';
import type { Command } from '#libs/store/redis';
import type { CertificateStore } from '#libs/store/store';
import type { CertificateTarget } from '#libs/targets/certificate-target';
import { type NamedPlace, placesAt } from '#libs/targets/places';
import { lastingDeploy } from './expected-bindings.ts';
import type { OpenTarget } from './open-target.ts';
import { placedAt } from './placed-at.ts';

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
  certificates: Pick<CertificateStore, 'get'>;
  orders: Pick<OrderStore, 'get'>;
  expectations: Pick<ExpectationStore, 'of' | 'recording'>;
  /** What a deployment may take without a command, ms. */
  deadlineMs?: number;
}

/** A target in one run. */
interface Opened {
  target: DeliveryTarget;
  certificates: CertificateTarget;
  /** The certificate that is expected at each place, this run's among them. */
  expected: Map<string, string>;
}

function deadlineOf(target: DeliveryTarget, usualMs: number): number {
  return usualMs + (target.kind === 'folder' ? (target.command?.timeoutSeconds ?? 0) * 1000 : 0);
}

/** Deployment to everything that is no IIS host: each order by itself, so that one that fails holds up no other. */
export function createDeliverHandler(deps: DeliverDeps): TargetHandler {
  const { findTarget, openTarget, openCertificate, expectations, deadlineMs = usualDeadlineMs } = deps;

  /** Whether a place has a certificate that is newer than this one, and came after the order was placed. */
  async function isSuperseded(place: string, order: IssuedOrder, own: Certificate, { expected }: Opened) {
    const id = expected.get(place);
    const other = id === undefined || id === own.id ? null : await deps.certificates.get(id);
    if (other === null || other.createdAt <= own.createdAt) return false;
    return other.createdAt > (await placedAt(order, own, deps.orders));
  }

  /** The places that the order brings its certificate to. */
  async function duePlaces(
    order: IssuedOrder,
    certificate: Certificate,
    opened: Opened,
    { log }: Context,
  ): Promise<NamedPlace[]> {
    const { deploy } = order.request;
    const only = isForOneTarget(deploy) ? deploy.only : undefined;
    const all = placesAt(opened.target, certificate.names);
    const wanted = all.filter(({ place }) => only === undefined || only.includes(place));
    if (all.length > 0 && wanted.length === 0)
      throw new CertlineError('target_refused', `the certificate has no place among ${only?.join(', ')}`, {
        plan: { kind: 'permanent' },
      });
    const left: string[] = [];
    for (const { place } of wanted) if (await isSuperseded(place, order, certificate, opened)) left.push(place);
    if (left.length === 0) return wanted;
    const detail = `what the order is for has a newer certificate, which was issued after the order was placed: ${left.slice(0, 5).join(', ')}`;
    if (left.length === wanted.length) throw new CertlineError('superseded', detail, { evidence: { left } });
    log.warn({ order: order.id, left }, 'places with a newer certificate are left alone');
    return wanted.filter(({ place }) => !left.includes(place));
  }

  /** What is expected at the places from now on, stored together with the order. */
  function also(order: IssuedOrder, own: Certificate, places: readonly NamedPlace[], at: number): Command[] {
    const { deploy } = order.request;
    if (!isForOneTarget(deploy)) return [];
    const { id: certificate, thumbprint } = own;
    const lasting = { order: order.id, certificate, thumbprint, deploy: lastingDeploy(deploy), at };
    const all = places.map(({ place }): Expectation => ({ place, store: null, sslFlags: 0, ...lasting }));
    return expectations.recording(deploy.target, all);
  }

  async function deliver(
    opened: Opened,
    order: IssuedOrder,
    limitMs: number,
    context: Context,
  ): Promise<TargetOutcome> {
    const { clock, log, signal } = context;
    const { id, epoch } = order;
    const deadline = AbortSignal.timeout(limitMs);
    try {
      const { certificate, privateKeyPem, chainPem } = await openCertificate(order.certificate);
      const places = await duePlaces(order, certificate, opened, context);
      const names = places.length === 0 ? certificate.names : places.flatMap((place) => place.names);
      const delivery = { signal: AbortSignal.any([signal, deadline]), deployment: `${id}.${epoch}` };
      const { detail } = await opened.certificates.deploy({ ...certificate, names, privateKeyPem, chainPem }, delivery);
      log.info({ order: id }, detail);
      for (const { place } of places) opened.expected.set(place, certificate.id);
      const now = clock.now();
      return { id, deployed: deployed(order, now), also: also(order, certificate, places, now) };
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
      let certificates: CertificateTarget;
      try {
        certificates = await openTarget(target);
      } catch (thrown) {
        return refused(asCertlineError(thrown));
      }
      const known = await expectations.of(targetId);
      const expected = new Map(known.map(({ place, certificate }) => [place, certificate]));
      const limitMs = deadlineOf(target, deadlineMs);
      return sideBySide(orders, atOnce[target.kind], (order) =>
        deliver({ target, certificates, expected }, order, limitMs, context),
      );
    },
  };
}
