import { randomBytes } from 'node:crypto';
import { createPfx, pfxFormFor } from '#libs/crypto/pfx';
import type { ErrorCode } from '#libs/error-codes';
import { asCertlineError, CertlineError } from '#libs/errors';
import type { BindingPlan } from '#libs/iis/binding-plan';
import { defaultStore, planDeployment } from '#libs/iis/deployment-plan';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import { sideBySide } from '#libs/iis/side-by-side';
import type { Certificate } from '#libs/model/certificate';
import { type IssuedOrder, isForOneTarget, type TargetDeploy } from '#libs/model/order';
import type { IisTarget, Target } from '#libs/model/target';
import { deployed } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import type { UndoRecords } from '#libs/store/undo-records';
import { type Context, createGuardedCommits, placesOf, type Undone } from './guarded-commit.ts';

/** Every attempt rewrites the bindings twice, and can recycle application pools: a host that keeps serving another certificate needs a person. */
const putBackPlan = { kind: 'retryable', attempts: 5 } as const;
/** Imports to one host at a time: each is a process of its own there. */
const importsAtOnce = 4;
/** Failures that are the host's and not one order's: to ask again for each order by itself would help none. */
const ofTheHost: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['target_unreachable', 'target_timeout', 'ssh_login_refused', 'host_key_changed'] as const),
  ...(['access_denied', 'iis_missing', 'commit_conflict', 'credential_unknown'] as const),
]);

interface OpenedCertificate {
  certificate: Certificate;
  privateKeyPem: string;
  chainPem: string;
}

export interface DeployDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost(target: Target): IisHost;
  /** A certificate with its key and its chain (leaf first), PEM. */
  openCertificate(id: string): Promise<OpenedCertificate>;
  /** Those of some thumbprints that are of certificates of certline. */
  knownThumbprints(thumbprints: readonly string[]): Promise<ReadonlySet<string>>;
  undo: UndoRecords;
}

/** One order with what it would change. */
interface Job {
  order: IssuedOrder;
  deploy: TargetDeploy;
  opened: OpenedCertificate;
  plan: BindingPlan;
}

/** A host in one run. */
interface Place {
  target: IisTarget;
  host: IisHost;
}

/** Splits jobs into those that can share a commit and those whose bindings, or records of http.sys, another one changes already. */
function disjoint(jobs: readonly Job[]): { now: Job[]; later: Job[] } {
  const taken = new Set<string>();
  const now: Job[] = [];
  const later: Job[] = [];
  for (const job of jobs) {
    const places = job.plan.changes.flatMap(placesOf);
    if (places.some((place) => taken.has(place))) later.push(job);
    else {
      now.push(job);
      for (const place of places) taken.add(place);
    }
  }
  return { now, later };
}

/** Every thumbprint that a binding or an ftp site of the host has. */
function thumbprintsOf({ sites }: HostState): string[] {
  const all = sites.flatMap(({ bindings, ftp }) => [ftp?.thumbprint, ...bindings.map(({ thumbprint }) => thumbprint)]);
  return [...new Set(all.flatMap((one) => (one ? [one.toUpperCase()] : [])))];
}

function planOf(
  order: IssuedOrder,
  opened: OpenedCertificate,
  state: HostState,
  ours: ReadonlySet<string>,
  now: number,
): Omit<Job, 'order'> {
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
  return { deploy, opened, plan };
}

function outcomeOf({ order, opened }: Job, undone: Undone | null | undefined, now: number): TargetOutcome {
  if (!undone) return { id: order.id, deployed: deployed(order, now) };
  const { binding, seen, error, putBack, stuck } = undone;
  const back = putBack > 0 ? `bindings put back as they were: ${putBack}` : 'nothing had to be put back';
  const left = stuck ? `; the host refuses to put back ${stuck.join(', ')}` : '';
  const { thumbprint } = opened.certificate;
  const what = seen ? `${binding} serves ${seen} instead of ${thumbprint}` : `${binding} does not serve ${thumbprint}`;
  const detail = `${what}${error ? `: ${error}` : ''}; ${back}${left}`;
  return {
    id: order.id,
    error: new CertlineError('handshake_mismatch', detail, { plan: putBackPlan, evidence: { ...undone } }),
  };
}

/** Deployment: everything that is due on a host in one commit, proved by handshakes, put back when they show something else. */
export function createDeployHandler(deps: DeployDeps): TargetHandler {
  const { findTarget, openHost, openCertificate, knownThumbprints } = deps;
  const commits = createGuardedCommits(deps.undo);

  async function importCertificate(host: IisHost, job: Job, osBuild: number, signal: AbortSignal): Promise<void> {
    const { certificate, privateKeyPem, chainPem } = job.opened;
    const { store = defaultStore, exportable = false, readers = [] } = job.deploy;
    // The password only has to outlive the import: nobody needs to know it.
    const password = randomBytes(24).toString('base64url');
    const friendlyName = `${certificate.names[0]} [certline] ${new Date(certificate.notAfter).toISOString().slice(0, 10)}`;
    const pfx = await createPfx({ privateKeyPem, chainPem, password, friendlyName, form: pfxFormFor(osBuild) });
    const { thumbprint } = certificate;
    await host.importPfx({ pfx, password, thumbprint, store, friendlyName, exportable, readers }, signal);
  }

  /** Imports what the jobs need; answers the jobs that can go on, and what became of the others. */
  async function importAll(
    host: IisHost,
    jobs: readonly Job[],
    { osBuild }: HostState,
    { signal }: Context,
  ): Promise<{ ready: Job[]; outcomes: TargetOutcome[] }> {
    const outcomes: TargetOutcome[] = [];
    // A job without changes has its certificate wherever it belongs, unless the store is all it is for.
    const needing = jobs.filter(({ plan, deploy }) => plan.changes.length > 0 || deploy.mode === 'store');
    const lost = new Set<Job>();
    await sideBySide(needing, importsAtOnce, async (job) => {
      try {
        await importCertificate(host, job, osBuild, signal);
      } catch (thrown) {
        signal.throwIfAborted();
        const error = asCertlineError(thrown);
        if (ofTheHost.has(error.code)) throw error;
        lost.add(job);
        outcomes.push({ id: job.order.id, error });
      }
    });
    return { ready: jobs.filter((job) => !lost.has(job)), outcomes };
  }

  /** Commits the jobs together; when the host refuses them, in halves, so that one bad order holds up no other. */
  async function deployJobs(
    place: Place,
    state: HostState,
    jobs: readonly Job[],
    context: Context,
  ): Promise<TargetOutcome[]> {
    const { host, target } = place;
    let ready = jobs;
    const outcomes: TargetOutcome[] = [];
    try {
      const imported = await importAll(host, jobs, state, context);
      ready = imported.ready;
      outcomes.push(...imported.outcomes);
      if (ready.length === 0) return outcomes;
      const parts = ready.map(({ opened, plan }) => ({ certificate: opened.certificate, changes: plan.changes }));
      const undone = await commits.commit(host, target, state, parts, context);
      return [...outcomes, ...ready.map((job, at) => outcomeOf(job, undone[at], context.clock.now()))];
    } catch (thrown) {
      context.signal.throwIfAborted();
      const error = asCertlineError(thrown);
      const orders = ready.map(({ order }) => order);
      if (orders.length === 1 || ofTheHost.has(error.code))
        return [...outcomes, ...orders.map(({ id }) => ({ id, error }))];
      const half = Math.ceil(orders.length / 2);
      for (const some of [orders.slice(0, half), orders.slice(half)])
        outcomes.push(...(await deployOrders(place, some, context)));
      return outcomes;
    }
  }

  async function planAll(
    orders: readonly IssuedOrder[],
    state: HostState,
    { log, clock }: Context,
  ): Promise<{ jobs: Job[]; outcomes: TargetOutcome[] }> {
    const ours = await knownThumbprints(thumbprintsOf(state));
    const outcomes: TargetOutcome[] = [];
    const jobs: Job[] = [];
    const opening = await Promise.allSettled(orders.map(({ certificate }) => openCertificate(certificate)));
    for (const [at, order] of orders.entries()) {
      const opened = opening[at];
      try {
        if (opened?.status !== 'fulfilled') throw opened?.reason;
        const job = { order, ...planOf(order, opened.value, state, ours, clock.now()) };
        for (const warning of job.plan.warnings) log.warn({ order: order.id, warning }, 'binding plan');
        jobs.push(job);
      } catch (error) {
        outcomes.push({ id: order.id, error: asCertlineError(error) });
      }
    }
    return { jobs, outcomes };
  }

  async function deployOrders(
    place: Place,
    orders: readonly IssuedOrder[],
    context: Context,
  ): Promise<TargetOutcome[]> {
    let state: HostState;
    try {
      state = await place.host.read(context.signal);
    } catch (thrown) {
      context.signal.throwIfAborted();
      const error = asCertlineError(thrown);
      return orders.map(({ id }) => ({ id, error }));
    }
    const { jobs, outcomes } = await planAll(orders, state, context);
    const { now, later } = disjoint(jobs);
    if (now.length > 0) outcomes.push(...(await deployJobs(place, state, now, context)));
    const waiting = later.map(({ order }) => order);
    if (waiting.length > 0) outcomes.push(...(await deployOrders(place, waiting, context)));
    return outcomes;
  }

  return {
    // Of a target that is gone nothing can be made up for.
    unsettled: async (targetId) => (await deps.undo.has(targetId)) && (await findTarget(targetId)) !== null,
    async run(targetId, orders, context) {
      const target = await findTarget(targetId);
      if (target === null) {
        const error = new CertlineError('target_unknown', `there is no target ${targetId}`);
        return orders.map(({ id }) => ({ id, error }));
      }
      if (target.kind !== 'iis') throw new Error(`${targetId} is no IIS host: it is not for this handler`);
      const host = openHost(target);
      try {
        await commits.settle(host, target, context);
        return orders.length === 0 ? [] : await deployOrders({ target, host }, orders, context);
      } finally {
        await host.close?.();
      }
    },
  };
}
