import { CertlineError } from '../errors.ts';
import type { Deploy } from '../model/order.ts';
import { type BindingPlan, type PlannedCertificate, planBindings } from './binding-plan.ts';
import type { HostState } from './iis-host.ts';

/** What an order's `deploy` asks of a host. */
export type HostDeploy = Exclude<Deploy, { mode: 'none' }>;

/** Store that a certificate goes to unless the order names one. */
export const defaultStore = 'My';

/**
 * The plan of an order on a host.
 * @throws CertlineError `site_not_found`; `nothing_to_bind` when no binding has the certificate and none would get it
 */
export function planDeployment(state: HostState, certificate: PlannedCertificate, deploy: HostDeploy): BindingPlan {
  const { mode, target: _target, store = defaultStore, ...options } = deploy;
  const plan = planBindings(state, certificate, { mode, store, ...options });
  const bound = plan.unbound.length < certificate.names.length;
  if (mode !== 'store' && plan.changes.length === 0 && !bound) {
    const skipped = plan.skipped.map(({ bindingInformation, reason }) => `${bindingInformation}: ${reason}`);
    const why = skipped.length > 0 ? ` (${skipped.slice(0, 5).join('; ')})` : '';
    throw new CertlineError('nothing_to_bind', `no binding fits ${certificate.names.join(', ')}${why}`, {
      evidence: { skipped },
    });
  }
  return plan;
}
