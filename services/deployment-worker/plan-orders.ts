import { asCertlineError, CertlineError } from '#libs/errors';
import type { BindingPlan } from '#libs/iis/binding-plan';
import { isBound, planDeployment } from '#libs/iis/deployment-plan';
import type { HostState } from '#libs/iis/iis-host';
import { replacedThumbprints, withoutSuperseded } from '#libs/iis/plan-restriction';
import type { Certificate } from '#libs/model/certificate';
import { type IssuedOrder, isForOneTarget, type TargetDeploy } from '#libs/model/order';
import type { TargetOutcome } from '#libs/queues/handler';
import type { OpenedCertificate } from '#libs/service/certificate-reader';
import type { OrderStore } from '#libs/store/orders';
import type { CertificateStore } from '#libs/store/store';
import type { Context } from './guarded-commit.ts';
import { placedAt } from './placed-at.ts';

/** One order with what it would change. */
export interface Job {
  order: IssuedOrder;
  deploy: TargetDeploy;
  opened: OpenedCertificate;
  plan: Pick<BindingPlan, 'changes' | 'skipped' | 'warnings'>;
}

export interface PlanOrdersDeps {
  /** A certificate with its key and its chain (leaf first), PEM. */
  openCertificate(id: string): Promise<OpenedCertificate>;
  certificates: Pick<CertificateStore, 'knownThumbprints' | 'findByThumbprint'>;
  orders: Pick<OrderStore, 'get'>;
}

/** Plans orders on a host; those that cannot be carried out come back as outcomes. */
export type PlanOrders = (
  orders: readonly IssuedOrder[],
  state: HostState,
  context: Context,
) => Promise<{ jobs: Job[]; outcomes: TargetOutcome[] }>;

/** Every thumbprint that a binding or an ftp site of the host has. */
export function thumbprintsOf({ sites }: HostState): string[] {
  const all = sites.flatMap(({ bindings, ftp }) => [ftp?.thumbprint, ...bindings.map(({ thumbprint }) => thumbprint)]);
  return [...new Set(all.flatMap((one) => (one ? [one.toUpperCase()] : [])))];
}

function jobOf(
  order: IssuedOrder,
  opened: OpenedCertificate,
  state: HostState,
  ours: ReadonlySet<string>,
  now: number,
): Job {
  const { deploy } = order.request;
  if (!isForOneTarget(deploy))
    throw new CertlineError('unexpected', 'an order without a target came to the deployment of one');
  const { notAfter } = opened.certificate;
  if (notAfter <= now) {
    const detail = `the certificate expired at ${new Date(notAfter).toISOString()} while its deployment waited: order a new one`;
    throw new CertlineError('deadline_passed', detail, { plan: { kind: 'permanent' } });
  }
  const plan = planDeployment(state, opened.certificate, deploy, ours);
  const { planHash } = deploy;
  // Nothing to change is no drift: an earlier run of this order may have done it all and not come to say so.
  if (planHash !== undefined && (plan.changes.length > 0 || deploy.mode === 'store') && plan.hash !== planHash) {
    throw new CertlineError('plan_drifted', `the plan is now ${plan.hash}, not ${planHash}: nothing was changed`, {
      plan: { kind: 'permanent' },
      evidence: { planHash: plan.hash, changes: plan.changes.map(({ reason: _, ...change }) => change) },
    });
  }
  return { order, deploy, opened, plan };
}

export function createOrderPlanner(deps: PlanOrdersDeps): PlanOrders {
  const { openCertificate, certificates, orders: placed } = deps;

  /** Certificates of certline that the changes of some jobs would replace, by thumbprint. */
  async function findReplaced(jobs: readonly Job[], state: HostState, ours: ReadonlySet<string>) {
    const changes = jobs.flatMap(({ plan }) => plan.changes);
    const all = replacedThumbprints(state, changes).filter((one) => ours.has(one));
    const found = await Promise.all(all.map(certificates.findByThumbprint));
    return found.filter((one) => one !== null);
  }

  /**
   * The job without what would put its certificate over a newer one that came after its order was placed: the order has waited for too
   * long there. One that was placed since is meant as it is, as a roll-back.
   */
  async function upToDate(job: Job, state: HostState, replaced: readonly Certificate[]): Promise<Job> {
    const { order, opened, deploy, plan } = job;
    const { certificate } = opened;
    if (replaced.every(({ createdAt }) => createdAt <= certificate.createdAt)) return job;
    const since = Math.max(await placedAt(order, certificate, placed), certificate.createdAt);
    const newer = replaced.filter(({ createdAt }) => createdAt > since);
    const names = new Map(newer.map((one) => [one.thumbprint.toUpperCase(), one.names]));
    const { changes, left } = withoutSuperseded(state, plan.changes, names);
    if (left.length === 0) return job;
    if (changes.length > 0 || isBound(state, certificate, deploy))
      return { ...job, plan: { ...plan, changes, skipped: [...plan.skipped, ...left] } };
    const where = left.map(({ siteId, bindingInformation }) => bindingInformation || `ftp of site ${siteId}`);
    const ids = newer.map(({ id }) => id).join(', ');
    const detail = `what the order is for has a newer certificate, which was issued after the order was placed: ${where.slice(0, 5).join(', ')}`;
    throw new CertlineError('superseded', `${detail} (${ids})`, {
      evidence: { left, newer: newer.map(({ id }) => id) },
    });
  }

  return async (orders, state, { log, clock }) => {
    const ours = await certificates.knownThumbprints(thumbprintsOf(state));
    const outcomes: TargetOutcome[] = [];
    const planned: Job[] = [];
    const opening = await Promise.allSettled(orders.map(({ certificate }) => openCertificate(certificate)));
    for (const [at, order] of orders.entries()) {
      const opened = opening[at];
      try {
        if (opened?.status !== 'fulfilled') throw opened?.reason;
        planned.push(jobOf(order, opened.value, state, ours, clock.now()));
      } catch (error) {
        outcomes.push({ id: order.id, error: asCertlineError(error) });
      }
    }
    const replaced = await findReplaced(planned, state, ours);
    const jobs: Job[] = [];
    for (const one of planned) {
      const { id } = one.order;
      try {
        const job = await upToDate(one, state, replaced);
        for (const warning of job.plan.warnings) log.warn({ order: id, warning }, 'binding plan');
        if (job !== one)
          log.warn({ order: id, skipped: job.plan.skipped }, 'bindings with a newer certificate are left alone');
        jobs.push(job);
      } catch (error) {
        outcomes.push({ id, error: asCertlineError(error) });
      }
    }
    return { jobs, outcomes };
  };
}
