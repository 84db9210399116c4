import { asCertlineError, CertlineError } from '#libs/errors';
import { parseBindingInformation } from '#libs/iis/binding-information';
import { planDeployment } from '#libs/iis/deployment-plan';
import { probeThumbprint } from '#libs/iis/handshake';
import type { BindingChange, HostState, IisHost } from '#libs/iis/iis-host';
import type { Certificate } from '#libs/model/certificate';
import { nextOpening } from '#libs/model/maintenance-window';
import { type IssuedOrder, isForOneTarget } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import type { UndoRecords } from '#libs/store/undo-records';

/** When a host is looked at again that could not be read outside its windows: what it serves may expire before the next one. */
const lookAgainMs = 3_600_000;
const handshakeTimeoutMs = 5_000;

type Context = Parameters<TargetHandler['run']>[2];

export interface MaintenanceDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost(target: Target): IisHost;
  certificates: {
    get(id: string): Promise<Certificate | null>;
    findByThumbprint(thumbprint: string): Promise<Certificate | null>;
    knownThumbprints(thumbprints: readonly string[]): Promise<Set<string>>;
  };
  /** Where a commit that was cut off is told from. */
  undo: Pick<UndoRecords, 'get'>;
}

/** Lets orders through to `handler` in the maintenance windows of their target; outside them those alone that cannot wait for the next. */
export function keepWindows(handler: TargetHandler, deps: MaintenanceDeps): TargetHandler {
  const { findTarget, openHost, certificates, undo } = deps;

  /** End of the certificate that a binding has now, ms since the epoch; null when it has none, or it cannot be told. */
  async function endOf(host: IisHost, change: BindingChange, signal: AbortSignal): Promise<number | null> {
    const { expect, protocol, bindingInformation } = change;
    if (!expect?.thumbprint) return null;
    const known = await certificates.findByThumbprint(expect.thumbprint.toUpperCase());
    if (known) return known.notAfter;
    const address = parseBindingInformation(bindingInformation);
    if (protocol !== 'https' || address === null || host.answersOnlyItself?.(address.ip)) return null;
    const name = address.host === '' ? null : address.host.replace(/^\*/, 'certline-probe');
    try {
      const endpoint = host.endpoint(address.ip, address.port);
      return (await probeThumbprint(endpoint, name, handshakeTimeoutMs, signal)).notAfter;
    } catch {
      signal.throwIfAborted();
      return null;
    }
  }

  /** Whether a binding that the order changes has a certificate that ends before the host may be changed. */
  async function isUrgent(
    order: IssuedOrder,
    { host, state, opening, signal }: { host: IisHost; state: HostState; opening: number; signal: AbortSignal },
  ): Promise<boolean> {
    const { deploy } = order.request;
    const certificate = await certificates.get(order.certificate);
    if (!isForOneTarget(deploy) || certificate === null) return false;
    const used = state.sites.flatMap((site) => [site.ftp, ...site.bindings].map((at) => at?.thumbprint?.toUpperCase()));
    const ours = await certificates.knownThumbprints([
      ...new Set(used.filter((thumbprint) => !!thumbprint)),
    ] as string[]);
    for (const change of planDeployment(state, certificate, deploy, ours).changes) {
      const end = await endOf(host, change, signal);
      if (end !== null && end <= opening) return true;
    }
    return false;
  }

  function waiting({ id }: IssuedOrder, target: Target, times: { opening: number; until: number }): TargetOutcome {
    const detail = `${target.name} may be changed from ${new Date(times.opening).toISOString()} on`;
    // All at once, for one commit.
    const plan = { kind: 'wait', until: times.until, exact: true } as const;
    return { id, error: new CertlineError('outside_window', detail, { plan }) };
  }

  /** Those that cannot wait, and what becomes of the others. What expires where no host can be asked is not known: there all wait. */
  async function sortOut(
    target: Target,
    orders: readonly IssuedOrder[],
    opening: number,
    { clock, log, signal }: Context,
  ): Promise<{ urgent: IssuedOrder[]; outcomes: TargetOutcome[] }> {
    if (target.kind !== 'iis')
      return { urgent: [], outcomes: orders.map((order) => waiting(order, target, { opening, until: opening })) };
    const urgent: IssuedOrder[] = [];
    const outcomes: TargetOutcome[] = [];
    const host = openHost(target);
    try {
      const state = await host.read(signal);
      for (const order of orders) {
        try {
          if (await isUrgent(order, { host, state, opening, signal })) urgent.push(order);
          else outcomes.push(waiting(order, target, { opening, until: opening }));
        } catch (thrown) {
          signal.throwIfAborted();
          outcomes.push({ id: order.id, error: asCertlineError(thrown) });
        }
      }
      return { urgent, outcomes };
    } catch (thrown) {
      signal.throwIfAborted();
      log.info(
        { code: asCertlineError(thrown).code },
        'the host cannot be read outside its windows: it is looked at again',
      );
      const until = Math.min(opening, clock.now() + lookAgainMs);
      return { urgent: [], outcomes: orders.map((order) => waiting(order, target, { opening, until })) };
    } finally {
      await host.close?.();
    }
  }

  return {
    unsettled: async (targetId) => (await handler.unsettled?.(targetId)) ?? false,
    inDoubt: async (targetId) => (await handler.inDoubt?.(targetId)) ?? new Set(),
    async run(targetId, orders, context) {
      const target = await findTarget(targetId);
      const opening = target === null ? null : nextOpening(target.windows, context.clock.now());
      if (target === null || opening === null) return handler.run(targetId, orders, context);
      // A host that a dead worker left between is set right at once: it was changed in a window.
      if ((await undo.get(targetId)) !== null) {
        try {
          await handler.run(targetId, [], context);
        } catch (thrown) {
          context.signal.throwIfAborted();
          // The orders wait for the window all the same: that the host is away now is not their failure.
          context.log.warn({ err: thrown }, 'a commit that was cut off could not be settled yet');
        }
      }
      if (orders.length === 0) return [];
      const { urgent, outcomes } = await sortOut(target, orders, opening, context);
      return urgent.length === 0 ? outcomes : [...outcomes, ...(await handler.run(targetId, urgent, context))];
    },
  };
}
