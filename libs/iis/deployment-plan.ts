import { CertlineError } from '../errors.ts';
import type { TargetDeploy } from '../model/order.ts';
import { type BindingPlan, hashOf, type PlannedCertificate, planBindings } from './binding-plan.ts';
import type { HostState } from './iis-host.ts';

/** Store that a certificate goes to unless the order names one. */
export const defaultStore = 'My';

/** Whether something that the order means has the certificate already: its site, or any where it names none. */
function isBound(
  { sites }: HostState,
  { thumbprint }: PlannedCertificate,
  { mode, site: chosen }: TargetDeploy,
): boolean {
  const wanted = thumbprint.toUpperCase();
  return sites
    .filter(({ id }) => mode !== 'site' || id === chosen)
    .flatMap(({ bindings, ftp }) => [...bindings, ...(ftp ? [ftp] : [])])
    .some((one) => one.thumbprint?.toUpperCase() === wanted);
}

/**
 * The plan of an order on a host. `ours` are the thumbprints that certline put on it, for `replace: 'ours'` and for ftp sites.
 * @throws CertlineError `site_not_found`; `nothing_to_bind` when no binding has the certificate and none would get it
 */
export function planDeployment(
  state: HostState,
  certificate: PlannedCertificate,
  deploy: TargetDeploy,
  ours: ReadonlySet<string> = new Set(),
): BindingPlan {
  const { mode, target, store = defaultStore, exportable = false, readers = [], ...options } = deploy;
  const bindings = planBindings(state, certificate, { mode, store, ...options, ours });
  // What becomes of the certificate besides its bindings is agreed to as well, and on which host.
  const hash = hashOf({ bindings: bindings.hash, target, mode, store, exportable, readers });
  const plan = { ...bindings, hash };
  if (mode !== 'store' && plan.changes.length === 0 && !isBound(state, certificate, deploy)) {
    const skipped = plan.skipped.map(
      ({ siteId, protocol, bindingInformation, reason }) =>
        `${protocol === 'ftp' ? `ftp of site ${siteId}` : bindingInformation}: ${reason}`,
    );
    const why = skipped.length > 0 ? ` (${skipped.slice(0, 5).join('; ')})` : '';
    throw new CertlineError('nothing_to_bind', `no binding fits ${certificate.names.join(', ')}${why}`, {
      evidence: { skipped },
    });
  }
  return plan;
}
