import { z } from 'zod';
import { CertlineError, type ErrorCode } from '#libs/errors';
import type { BindingPlan, PlannedCertificate } from '#libs/iis/binding-plan';
import { defaultStore, planDeployment } from '#libs/iis/deployment-plan';
import type { HostState } from '#libs/iis/iis-host';
import { describePlan } from '#libs/iis/plan-preview';
import { type Deploy, isForOneTarget, type TargetDeploy } from '#libs/model/order';
import type { DeliveryTarget, Target } from '#libs/model/target';
import type { CertificateStore } from '#libs/store/store';
import { plannedWrites } from '#libs/targets/planned-writes';
import { invalid } from './deploy-body.ts';
import type { OpenHost } from './hosts.ts';

/** How long a request that only asks whether an order could be deployed waits for its host. */
const usualPatienceMs = 10_000;
/** Stands for a certificate that is not there yet: no host has it. */
export const noThumbprint = '0'.repeat(40);

const servedView = z.object({
  thumbprint: z.string().nullable(),
  store: z.string().nullable(),
  sslFlags: z.number(),
});

export const deploymentView = z.object({
  target: z.object({ id: z.string(), name: z.string(), kind: z.string() }),
  mode: z.string(),
  site: z.number().nullable().describe('The site that was chosen'),
  store: z.string().nullable().describe('Where the certificate goes to; null where there are no stores'),
  writes: z.array(z.string()).describe('What would be written at a target that is no IIS host'),
  bindings: z
    .array(
      z.object({
        siteId: z.number(),
        site: z.string(),
        protocol: z.enum(['https', 'ftp']),
        bindingInformation: z.string().describe('Empty with `ftp`, whose certificate is the site’s'),
        before: servedView.nullable().describe('Null for a binding that would be added'),
        after: servedView.nullable().describe('Null for a binding that would be removed'),
        reason: z.string(),
      }),
    )
    .describe(`As they are and as they would be; ${noThumbprint} is the certificate that is not issued yet`),
  skipped: z.array(
    z.object({
      siteId: z.number(),
      protocol: z.enum(['https', 'ftp']),
      bindingInformation: z.string(),
      reason: z.string(),
    }),
  ),
  warnings: z.array(z.string()),
  shared: z
    .array(z.object({ record: z.string(), siteIds: z.array(z.number()) }))
    .describe('Records of http.sys from which several bindings take their certificate'),
  unbound: z.array(z.string()).describe('Names that no binding would answer for with this certificate'),
  planHash: z
    .string()
    .nullable()
    .describe('Give it as `deploy.planHash`, and nothing but this is done; null at a target that is no IIS host'),
});
export type DeploymentView = z.input<typeof deploymentView>;

/** What a host may answer instead of its state. */
export const hostErrors: ErrorCode[] = [
  'target_unreachable',
  'target_timeout',
  'target_refused',
  'ssh_login_refused',
  'host_key_changed',
  'access_denied',
  'iis_missing',
  'credential_unknown',
  'secret_unreadable',
];
/** What is wrong with a deployment, whatever is deployed. */
export const planErrors: ErrorCode[] = ['target_unknown', 'site_not_found', 'nothing_to_bind', 'plan_drifted'];

/** The fields that the errors of planning are about. */
const pathOf: Partial<Record<ErrorCode, string>> = { site_not_found: 'deploy.site', nothing_to_bind: 'deploy' };

export interface HostPlansDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost: OpenHost;
  certificates: Pick<CertificateStore, 'knownThumbprints'>;
  /** How long `check` waits for the host. */
  patienceMs?: number;
}

/** A host as one request sees it: read once, however often it is asked for. */
export interface HostPlans {
  /** Throws `target_unknown` with the field that names it. */
  target(id: string, path: string): Promise<Target>;
  state(target: Target, signal: AbortSignal): Promise<HostState>;
  /** What a deployment would do. Throws what the host throws; `site_not_found`, `nothing_to_bind` with the field. */
  preview(deploy: Deploy, certificate: PlannedCertificate, signal: AbortSignal): Promise<DeploymentView[]>;
  /**
   * Refuses a deployment that would fail now, for it would fail after it cost a certificate, and one whose plan is not the given one
   * any more (`plan_drifted`). A host that does not answer now may be back when the certificate is there.
   */
  check(deploy: Deploy, certificate: PlannedCertificate, signal: AbortSignal): Promise<void>;
}

function view(target: Target, deploy: TargetDeploy, state: HostState, plan: BindingPlan): DeploymentView {
  return {
    target: { id: target.id, name: target.name, kind: target.kind },
    mode: deploy.mode,
    site: deploy.site ?? null,
    store: deploy.store ?? defaultStore,
    writes: [],
    bindings: describePlan(state, plan),
    skipped: plan.skipped,
    warnings: plan.warnings,
    shared: plan.shared,
    unbound: plan.unbound,
    planHash: plan.hash,
  };
}

/** What would be written; a name that nothing can be called after there is told with the field. */
function deliveryView(target: DeliveryTarget, { names }: PlannedCertificate): DeploymentView {
  const { id, name, kind } = target;
  let writes: string[];
  try {
    writes = plannedWrites(target, names);
  } catch (error) {
    if (error instanceof CertlineError) throw invalid('deploy.target', 'request_invalid', error.message);
    throw error;
  }
  return {
    ...{ target: { id, name, kind }, mode: 'store', site: null, store: null, writes, bindings: [] },
    ...{ skipped: [], warnings: [], shared: [], unbound: [], planHash: null },
  };
}

/** Plans for one request. */
export function createHostPlans({ findTarget, openHost, certificates, patienceMs }: HostPlansDeps): HostPlans {
  const states = new Map<string, Promise<HostState>>();

  async function target(id: string, path: string): Promise<Target> {
    const found = await findTarget(id);
    if (found === null) throw invalid(path, 'target_unknown', `there is no target ${id}`);
    return found;
  }

  function state(of: Target, signal: AbortSignal): Promise<HostState> {
    const reading = states.get(of.id) ?? openHost(of).read(signal);
    states.set(of.id, reading);
    return reading;
  }

  async function plan(host: HostState, certificate: PlannedCertificate, deploy: TargetDeploy): Promise<BindingPlan> {
    const served = host.sites.flatMap(({ bindings, ftp }) => [...bindings, ...(ftp ? [ftp] : [])]);
    const thumbprints = served.flatMap(({ thumbprint }) => (thumbprint === null ? [] : [thumbprint.toUpperCase()]));
    const ours = await certificates.knownThumbprints([...new Set(thumbprints)]);
    try {
      return planDeployment(host, certificate, deploy, ours);
    } catch (error) {
      const path = error instanceof CertlineError ? pathOf[error.code] : undefined;
      if (!(error instanceof CertlineError) || path === undefined) throw error;
      throw invalid(path, error.code, error.message);
    }
  }

  return {
    target,
    state,
    async preview(deploy, certificate, signal) {
      if (!isForOneTarget(deploy)) return [];
      const of = await target(deploy.target, 'deploy.target');
      if (of.kind !== 'iis') return [deliveryView(of, certificate)];
      const host = await state(of, signal);
      return [view(of, deploy, host, await plan(host, certificate, deploy))];
    },
    async check(deploy, certificate, signal) {
      if (!isForOneTarget(deploy)) return;
      const of = await target(deploy.target, 'deploy.target');
      if (of.kind !== 'iis') {
        deliveryView(of, certificate);
        return;
      }
      const patience = AbortSignal.timeout(patienceMs ?? usualPatienceMs);
      let host: HostState;
      try {
        host = await state(of, AbortSignal.any([signal, patience]));
      } catch (error) {
        if (error instanceof CertlineError || (patience.aborted && !signal.aborted)) return;
        throw error;
      }
      const { hash } = await plan(host, certificate, deploy);
      if (deploy.planHash === undefined || deploy.planHash === hash) return;
      const detail = `${of.name} has changed since the preview: the plan is ${hash} now`;
      throw invalid('deploy.planHash', 'plan_drifted', detail);
    },
  };
}
