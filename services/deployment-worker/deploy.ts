import { randomBytes } from 'node:crypto';
import { createPfx, pfxFormFor } from '#libs/crypto/pfx';
import type { ErrorCode } from '#libs/error-codes';
import { asCertlineError, CertlineError } from '#libs/errors';
import { defaultStore } from '#libs/iis/deployment-plan';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import type { Expectation } from '#libs/model/drift';
import type { IssuedOrder } from '#libs/model/order';
import type { IisTarget, Target } from '#libs/model/target';
import { deployed } from '#libs/model/transitions';
import type { TargetHandler, TargetOutcome } from '#libs/queues/handler';
import { sideBySide } from '#libs/side-by-side';
import type { ExpectationStore } from '#libs/store/expectations';
import type { Command } from '#libs/store/redis';
import type { UndoRecords } from '#libs/store/undo-records';
import { expectationsOf } from './expected-bindings.ts';
import { type Context, createGuardedCommits, placesOf, type Undone } from './guarded-commit.ts';
import { createOrderPlanner, type Job, type PlanOrdersDeps } from './plan-orders.ts';

/** Every attempt rewrites the bindings twice, and can recycle application pools: a host that keeps serving another certificate needs a person. */
const putBackPlan = { kind: 'retryable', attempts: 5 } as const;
/** Imports to one host at a time: each is a process of its own there. */
const importsAtOnce = 4;
/** Failures that are the host's and not one order's: to ask again for each order by itself would help none. */
const ofTheHost: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  ...(['target_unreachable', 'target_timeout', 'ssh_login_refused', 'host_key_changed'] as const),
  ...(['access_denied', 'iis_missing', 'commit_conflict', 'credential_unknown'] as const),
]);

export interface DeployDeps extends PlanOrdersDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost(target: Target): IisHost;
  expectations: Pick<ExpectationStore, 'of' | 'recording' | 'forgetting'>;
  undo: UndoRecords;
}

/** A host in one run. */
interface Place {
  target: IisTarget;
  host: IisHost;
  /** What was expected there when the run began. */
  expected: readonly Expectation[];
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

function mismatchOf({ order, opened }: Job, undone: Undone): TargetOutcome {
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
  const { findTarget, openHost, expectations } = deps;
  const planOrders = createOrderPlanner(deps);
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

  /** What is expected of the host from now on, stored together with the order. */
  function also({ target, expected }: Place, state: HostState, job: Job, now: number): Command[] {
    const { kept, gone } = expectationsOf(job, state, expected, now);
    return [...expectations.recording(target.id, kept), ...expectations.forgetting(target.id, gone)];
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
      const parts = ready.map(({ order, opened, plan }) => {
        return { order: order.id, certificate: opened.certificate, changes: plan.changes };
      });
      const undone = await commits.commit(host, target, state, parts, context);
      const now = context.clock.now();
      for (const [at, job] of ready.entries()) {
        const mismatch = undone[at];
        if (mismatch) outcomes.push(mismatchOf(job, mismatch));
        else
          outcomes.push({ id: job.order.id, deployed: deployed(job.order, now), also: also(place, state, job, now) });
      }
      return outcomes;
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
    const { jobs, outcomes } = await planOrders(orders, state, context);
    const { now, later } = disjoint(jobs);
    if (now.length > 0) outcomes.push(...(await deployJobs(place, state, now, context)));
    const waiting = later.map(({ order }) => order);
    if (waiting.length > 0) outcomes.push(...(await deployOrders(place, waiting, context)));
    return outcomes;
  }

  return {
    // Of a target that is gone nothing can be made up for.
    unsettled: async (targetId) => (await deps.undo.has(targetId)) && (await findTarget(targetId)) !== null,
    async inDoubt(targetId) {
      const record = await deps.undo.get(targetId);
      return new Set(record?.parts.flatMap(({ order }) => order ?? []));
    },
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
        if (orders.length === 0) return [];
        return await deployOrders({ target, host, expected: await expectations.of(targetId) }, orders, context);
      } finally {
        await host.close?.();
      }
    },
  };
}
