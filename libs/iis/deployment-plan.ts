import { bindingKey } from '../model/drift.ts';
import type { TargetDeploy } from '../model/order.ts';
import { type BindingPlan, hashChanges, hashOf, type PlannedCertificate, planBindings } from './binding-plan.ts';
import type { HostState } from './iis-host.ts';
import { nothingToBind } from './nothing-to-bind.ts';
import { changesAt } from './plan-restriction.ts';

/** Store that a certificate goes to unless the order names one. */
export const defaultStore = 'My';

/** Whether something that the order means has the certificate already: its site, or any where it names none. */
export function isBound(
  { sites }: HostState,
  { thumbprint }: Pick<PlannedCertificate, 'thumbprint'>,
  { mode, site: chosen, only }: TargetDeploy,
): boolean {
  const wanted = thumbprint.toUpperCase();
  const places = only && new Set(only);
  return sites
    .filter(({ id }) => mode !== 'site' || id === chosen || places !== undefined)
    .flatMap(({ id: siteId, bindings, ftp }) => [
      ...bindings.map((one) => ({ ...one, siteId, protocol: 'https' as const })),
      ...(ftp ? [{ ...ftp, siteId, protocol: 'ftp' as const, bindingInformation: '' }] : []),
    ])
    .some((one) => one.thumbprint?.toUpperCase() === wanted && (places?.has(bindingKey(one)) ?? true));
}

/**
 * The plan of an order on a host, though nothing may come of it; with `deploy.only` its changes at those places alone. `ours` are the
 * thumbprints that certline put on it, for `replace: 'ours'` and for ftp sites.
 * @throws CertlineError `site_not_found`
 */
export function draftDeployment(
  state: HostState,
  certificate: PlannedCertificate,
  deploy: TargetDeploy,
  ours: ReadonlySet<string> = new Set(),
): BindingPlan {
  const { mode, target, store = defaultStore, exportable = false, readers = [], only, ...options } = deploy;
  const bindings = planBindings(state, certificate, { mode, store, ...options, ours });
  const changes = only ? changesAt(state, bindings.changes, only) : bindings.changes;
  // What becomes of the certificate besides its bindings is agreed to as well, and on which host.
  const bindingHash = hashChanges(changes, certificate.thumbprint);
  const hash = hashOf({ bindings: bindingHash, target, mode, store, exportable, readers });
  return { ...bindings, changes, hash };
}

/**
 * The plan of an order on a host, as `draftDeployment` has it.
 * @throws CertlineError `site_not_found`; `nothing_to_bind` when no binding has the certificate and none would get it
 */
export function planDeployment(
  state: HostState,
  certificate: PlannedCertificate,
  deploy: TargetDeploy,
  ours: ReadonlySet<string> = new Set(),
): BindingPlan {
  const plan = draftDeployment(state, certificate, deploy, ours);
  if (deploy.mode === 'store' || plan.changes.length > 0 || isBound(state, certificate, deploy)) return plan;
  throw nothingToBind(state, certificate, deploy, plan.skipped);
}
