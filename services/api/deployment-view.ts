import { z } from 'zod';
import type { CertlineError } from '#libs/errors';
import type { BindingPlan } from '#libs/iis/binding-plan';
import { defaultStore } from '#libs/iis/deployment-plan';
import type { HostState } from '#libs/iis/iis-host';
import { describePlan } from '#libs/iis/plan-preview';
import { nextOpening } from '#libs/model/maintenance-window';
import type { TargetDeploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';

/** Stands for a certificate that is not there yet: no host has it. */
export const noThumbprint = '0'.repeat(40);

const servedView = z.object({
  thumbprint: z.string().nullable(),
  store: z.string().nullable(),
  sslFlags: z.number(),
});

export const deploymentView = z.object({
  target: z.object({ id: z.string(), name: z.string(), kind: z.string() }),
  wave: z.number().int().nullable().describe('Of several targets, counted from 1; null for one target'),
  opensAt: z.iso
    .datetime()
    .nullable()
    .describe('When the maintenance windows of the target let it be changed next; null when they do now'),
  error: z
    .object({ code: z.string(), detail: z.string() })
    .nullable()
    .describe(
      'With `targets`: why there is no plan for this one. An order would be refused with it, or, where the host just does not answer, wait for the host',
    ),
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
  skipped: z
    .array(
      z.object({
        siteId: z.number(),
        protocol: z.enum(['https', 'ftp']),
        bindingInformation: z.string(),
        reason: z.string(),
      }),
    )
    .describe('What is left alone; what is there is among `bindings` too'),
  warnings: z.array(z.string()),
  shared: z
    .array(z.object({ record: z.string(), siteIds: z.array(z.number()) }))
    .describe('Records of http.sys from which several bindings take their certificate'),
  unbound: z.array(z.string()).describe('Names that no binding would answer for with this certificate'),
  planHash: z
    .string()
    .nullable()
    .describe(
      'Give it as `deploy.planHash`, or with its target in `targets`, and nothing but this is done; null at a target that is no IIS host, and with `error`',
    ),
  planHashFits: z
    .boolean()
    .nullable()
    .describe(
      'Whether a `planHash` that was given is that of this plan; null when none was given, or there is no plan',
    ),
});
export type DeploymentView = z.input<typeof deploymentView>;

/** What a view of a deployment is about, whatever is done. */
export interface ViewedDeployment {
  target: Target;
  deploy: TargetDeploy;
  wave: number | null;
  /** Ms since the epoch. */
  now: number;
}

function baseOf({ target, deploy, wave, now }: ViewedDeployment): DeploymentView {
  const { id, name, kind } = target;
  const opens = nextOpening(target.windows, now);
  return {
    ...{ target: { id, name, kind }, wave, error: null, mode: deploy.mode, site: deploy.site ?? null },
    opensAt: opens === null ? null : new Date(opens).toISOString(),
    store: kind === 'iis' ? (deploy.store ?? defaultStore) : null,
    ...{ writes: [], bindings: [], skipped: [], warnings: [], shared: [], unbound: [] },
    ...{ planHash: null, planHashFits: null },
  };
}

/** The plan of an IIS host. */
export function viewPlan(viewed: ViewedDeployment, state: HostState, plan: BindingPlan): DeploymentView {
  const { skipped, warnings, shared, unbound, hash } = plan;
  const { planHash: given } = viewed.deploy;
  return {
    ...baseOf(viewed),
    bindings: describePlan(state, plan),
    ...{ skipped, warnings, shared, unbound, planHash: hash },
    planHashFits: given === undefined ? null : given === hash,
  };
}

/** What is written at a target that is no IIS host. */
export function viewDelivery(viewed: ViewedDeployment, writes: string[], warnings: string[]): DeploymentView {
  return { ...baseOf(viewed), writes, warnings };
}

/** A target that there is no plan for. */
export function viewFailure(viewed: ViewedDeployment, { code, message }: CertlineError): DeploymentView {
  return { ...baseOf(viewed), error: { code, detail: message } };
}
