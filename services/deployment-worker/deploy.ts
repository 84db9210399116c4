import { randomBytes } from 'node:crypto';
import { createPfx, pfxFormFor } from '#libs/crypto/pfx';
import { asCertlineError, CertlineError } from '#libs/errors';
import type { BindingPlan } from '#libs/iis/binding-plan';
import { defaultStore, planDeployment } from '#libs/iis/deployment-plan';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import { putBack } from '#libs/iis/put-back';
import { type Mismatch, verifyBindings } from '#libs/iis/verify';
import type { Certificate } from '#libs/model/certificate';
import type { IssuedOrder } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { deployed } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';

/** Every attempt rewrites the bindings twice, and can recycle application pools: a host that keeps serving another certificate needs a person. */
const putBackPlan = { kind: 'retryable', attempts: 5 } as const;

type Context = Parameters<TargetHandler['run']>[2];

export interface DeployDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost(target: Target): IisHost;
  /** A certificate with its key and its chain (leaf first), PEM. */
  openCertificate(id: string): Promise<{ certificate: Certificate; privateKeyPem: string; chainPem: string }>;
}

/** One order with what it would change. */
interface Job {
  order: IssuedOrder;
  certificate: Certificate;
  plan: BindingPlan;
  store: string;
}

/** What was wrong with a job, and how many bindings were put back for it. */
type Undone = Mismatch & { putBack: number };

const placeOf = ({ siteId, bindingInformation }: { siteId: number; bindingInformation: string }): string =>
  `${siteId} ${bindingInformation}`;

/** Splits jobs into those that can share a commit and those whose bindings another one changes already. */
function disjoint(jobs: readonly Job[]): { now: Job[]; later: Job[] } {
  const taken = new Set<string>();
  const now: Job[] = [];
  const later: Job[] = [];
  for (const job of jobs) {
    const places = job.plan.changes.map(placeOf);
    if (places.some((place) => taken.has(place))) later.push(job);
    else {
      now.push(job);
      for (const place of places) taken.add(place);
    }
  }
  return { now, later };
}

function planOf(order: IssuedOrder, certificate: Certificate, state: HostState): { plan: BindingPlan; store: string } {
  const { deploy } = order.request;
  if (deploy.mode === 'none')
    throw new CertlineError('unexpected', 'an order without deployment came to the deployment stage');
  return { plan: planDeployment(state, certificate, deploy), store: deploy.store ?? defaultStore };
}

/** Deployment: everything that is due on a host in one commit, proved by TLS handshakes, put back when they show something else. */
export function createDeployHandler({ findTarget, openHost, openCertificate }: DeployDeps): TargetHandler {
  async function importCertificate(
    host: IisHost,
    { certificate, store }: Job,
    state: HostState,
    signal: AbortSignal,
  ): Promise<void> {
    const { privateKeyPem, chainPem } = await openCertificate(certificate.id);
    // The password only has to outlive the import: nobody needs to know it.
    const password = randomBytes(24).toString('base64url');
    const friendlyName = `${certificate.names[0]} [certline] ${new Date(certificate.notAfter).toISOString().slice(0, 10)}`;
    const pfx = await createPfx({ privateKeyPem, chainPem, password, friendlyName, form: pfxFormFor(state.osBuild) });
    await host.importPfx({ pfx, password, thumbprint: certificate.thumbprint, store, friendlyName }, signal);
  }

  /** One commit for the jobs; answers what does not serve the certificate it ought to, after putting that back. */
  async function commit(
    host: IisHost,
    before: HostState,
    jobs: readonly Job[],
    { clock, signal }: Context,
  ): Promise<Map<Job, Undone>> {
    for (const job of jobs) await importCertificate(host, job, before, signal);
    const changes = jobs.flatMap(({ plan }) => plan.changes);
    if (changes.length > 0) await host.apply(changes, signal);
    const bad = new Map<Job, Undone>();
    for (const job of jobs) {
      const { certificate, plan } = job;
      const { mismatch, state } = await verifyBindings(host, { certificate, changes: plan.changes, clock, signal });
      if (mismatch === null) continue;
      const undo = putBack(before, state, plan.changes);
      if (undo.length > 0) await host.apply(undo, signal);
      bad.set(job, { ...mismatch, putBack: undo.length });
    }
    return bad;
  }

  function outcomeOf({ order, certificate }: Job, mismatch: Undone | undefined, now: number): TargetOutcome {
    if (!mismatch) return { id: order.id, deployed: deployed(order, now) };
    const seen = mismatch.seen ?? mismatch.error ?? 'nothing';
    const undone =
      mismatch.putBack > 0 ? `${mismatch.putBack} bindings were put back as they were` : 'nothing had to be put back';
    const detail = `${mismatch.binding} serves ${seen} instead of ${certificate.thumbprint}; ${undone}`;
    return {
      id: order.id,
      error: new CertlineError('handshake_mismatch', detail, { plan: putBackPlan, evidence: { ...mismatch } }),
    };
  }

  /** Commits the jobs together; when the host refuses them, each by itself, so that one bad order holds up no other. */
  async function deployJobs(
    host: IisHost,
    state: HostState,
    jobs: readonly Job[],
    context: Context,
  ): Promise<TargetOutcome[]> {
    try {
      const bad = await commit(host, state, jobs, context);
      return jobs.map((job) => outcomeOf(job, bad.get(job), context.clock.now()));
    } catch (thrown) {
      context.signal.throwIfAborted();
      const error = asCertlineError(thrown);
      const [only, ...others] = jobs;
      if (!only || error.code === 'target_unreachable') return jobs.map(({ order }) => ({ id: order.id, error }));
      if (others.length === 0) return [{ id: only.order.id, error }];
      const outcomes: TargetOutcome[] = [];
      for (const { order } of jobs) outcomes.push(...(await deployOrders(host, [order], context)));
      return outcomes;
    }
  }

  async function deployOrders(
    host: IisHost,
    orders: readonly IssuedOrder[],
    context: Context,
  ): Promise<TargetOutcome[]> {
    const state = await host.read(context.signal);
    const outcomes: TargetOutcome[] = [];
    const jobs: Job[] = [];
    for (const order of orders) {
      try {
        const { certificate } = await openCertificate(order.certificate);
        const { plan, store } = planOf(order, certificate, state);
        for (const warning of plan.warnings) context.log.warn({ order: order.id, warning }, 'binding plan');
        jobs.push({ order, certificate, plan, store });
      } catch (error) {
        outcomes.push({ id: order.id, error: asCertlineError(error) });
      }
    }
    const { now, later } = disjoint(jobs);
    if (now.length > 0) outcomes.push(...(await deployJobs(host, state, now, context)));
    if (later.length > 0)
      outcomes.push(
        ...(await deployOrders(
          host,
          later.map(({ order }) => order),
          context,
        )),
      );
    return outcomes;
  }

  return {
    async run(targetId, orders, context) {
      const target = await findTarget(targetId);
      if (target === null) {
        const error = new CertlineError('target_unknown', `there is no target ${targetId}`);
        return orders.map(({ id }) => ({ id, error }));
      }
      return deployOrders(openHost(target), orders, context);
    },
  };
}
