import type { Clock } from '#libs/clock';
import { CertlineError, type ErrorCode, type Problem } from '#libs/errors';
import type { BindingPlan, PlannedCertificate } from '#libs/iis/binding-plan';
import { planDeployment } from '#libs/iis/deployment-plan';
import type { HostState } from '#libs/iis/iis-host';
import { type Deploy, isForOneTarget, type TargetDeploy } from '#libs/model/order';
import type { DeliveryTarget, IisTarget, Target } from '#libs/model/target';
import { sideBySide } from '#libs/side-by-side';
import type { CertificateStore } from '#libs/store/store';
import { plannedWarnings, plannedWrites } from '#libs/targets/planned-writes';
import type { FindTarget } from './deploy-body.ts';
import { type DeploymentView, viewDelivery, viewFailure, viewPlan } from './deployment-view.ts';
import { invalid, noting, refusal } from './field-problems.ts';
import type { OpenHost } from './hosts.ts';

/** How long a request that only asks whether an order could be deployed waits for one host. */
const usualPatienceMs = 10_000;
/** How long it waits for all hosts of a rollout, and how long a preview does, in patiences: a person may wait longer for a whole farm. */
const patiences = { check: 3, preview: 12 };
/** Hosts that one request reads at a time. */
const hostsAtOnce = 8;

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

export interface HostPlansDeps {
  findTarget(id: string): Promise<Target | null>;
  openHost: OpenHost;
  certificates: Pick<CertificateStore, 'knownThumbprints'>;
  clock: Clock;
  /** How long `check` waits for a host. */
  patienceMs?: number;
}

/** Hosts as one request sees them: each is read once, however often it is asked for. */
export interface HostPlans {
  target: FindTarget;
  state(target: Target, signal: AbortSignal): Promise<HostState>;
  /**
   * What a deployment would do, for each target. For one target it throws what the host throws; `site_not_found`, `nothing_to_bind` with
   * the field. Of several targets each has its own error, and hides no other.
   */
  preview(deploy: Deploy, certificate: PlannedCertificate, signal: AbortSignal): Promise<DeploymentView[]>;
  /**
   * Refuses a deployment that would fail now, for it would fail after it cost a certificate, and one whose plan is not the given one
   * any more (`plan_drifted`); with the field of every target of which that is so. A host that does not answer now may be back when the
   * certificate is there.
   */
  check(deploy: Deploy, certificate: PlannedCertificate, signal: AbortSignal): Promise<void>;
}

/** One target of a deployment, and where the request says so. */
interface Place {
  deploy: TargetDeploy;
  /** Null for the only one. */
  wave: number | null;
  path: string;
}

function placesOf(deploy: Deploy): Place[] {
  if (deploy.mode === 'none') return [];
  if (isForOneTarget(deploy)) return [{ deploy, wave: null, path: 'deploy' }];
  // The waves are the targets of the request in their order.
  return deploy.waves
    .flatMap((wave, at) => wave.map((one) => ({ deploy: one, wave: at + 1 })))
    .map((one, at) => ({ ...one, path: `deploy.targets[${at}]` }));
}

function fieldOf({ wave, path }: Place, code: ErrorCode): string {
  switch (code) {
    case 'site_not_found':
      return `${path}.site`;
    case 'plan_drifted':
      return `${path}.planHash`;
    case 'request_invalid':
      // In a list the target may be a plain id, which has no fields.
      return wave === null ? `${path}.target` : path;
    default:
      return path;
  }
}

/** An error about one target, with the field that it is about; of several targets its name is said. */
function invalidAt(place: Place, { name }: Target, code: ErrorCode, detail: string): CertlineError {
  return invalid(fieldOf(place, code), code, place.wave === null ? detail : `${name}: ${detail}`);
}

/** What would be written; a name that nothing can be called after there is told with the field. */
function writesAt(place: Place, target: DeliveryTarget, { names }: PlannedCertificate): string[] {
  try {
    return plannedWrites(target, names);
  } catch (error) {
    if (error instanceof CertlineError) throw invalidAt(place, target, 'request_invalid', error.message);
    throw error;
  }
}

/** Plans for one request. */
export function createHostPlans({ findTarget, openHost, certificates, clock, patienceMs }: HostPlansDeps): HostPlans {
  const patience = patienceMs ?? usualPatienceMs;
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

  /** As `state`, but no longer than a request waits for one host of many, or `limit` lets it: `target_timeout`. */
  async function stateSoon(of: Target, signal: AbortSignal, limit: AbortSignal): Promise<HostState> {
    const own = AbortSignal.timeout(patience);
    try {
      return await state(of, AbortSignal.any([signal, limit, own]));
    } catch (error) {
      if (error instanceof CertlineError || signal.aborted || !(own.aborted || limit.aborted)) throw error;
      const detail = own.aborted
        ? `${of.name} did not answer in ${patience / 1000} s`
        : 'there was no time left for it: look at fewer targets at once';
      throw new CertlineError('target_timeout', detail);
    }
  }

  async function planOf(
    host: HostState,
    certificate: PlannedCertificate,
    place: Place,
    of: Target,
  ): Promise<BindingPlan> {
    const served = host.sites.flatMap(({ bindings, ftp }) => [...bindings, ...(ftp ? [ftp] : [])]);
    const thumbprints = served.flatMap(({ thumbprint }) => (thumbprint === null ? [] : [thumbprint.toUpperCase()]));
    const ours = await certificates.knownThumbprints([...new Set(thumbprints)]);
    try {
      return planDeployment(host, certificate, place.deploy, ours);
    } catch (error) {
      if (!(error instanceof CertlineError)) throw error;
      if (error.code !== 'site_not_found' && error.code !== 'nothing_to_bind') throw error;
      throw invalidAt(place, of, error.code, error.message);
    }
  }

  async function viewOf(
    place: Place,
    of: Target,
    certificate: PlannedCertificate,
    read: (of: IisTarget) => Promise<HostState>,
  ): Promise<DeploymentView> {
    const viewed = { target: of, deploy: place.deploy, wave: place.wave, now: clock.now() };
    if (of.kind !== 'iis') return viewDelivery(viewed, writesAt(place, of, certificate), plannedWarnings(of));
    const host = await read(of);
    return viewPlan(viewed, host, await planOf(host, certificate, place, of));
  }

  /** Throws when the deployment would fail there, or is not what was agreed to. */
  async function checkAt(
    place: Place,
    certificate: PlannedCertificate,
    signal: AbortSignal,
    limit: AbortSignal,
  ): Promise<void> {
    const of = await target(place.deploy.target, `${place.path}.target`);
    if (of.kind !== 'iis') {
      writesAt(place, of, certificate);
      return;
    }
    let host: HostState;
    try {
      host = await stateSoon(of, signal, limit);
    } catch (error) {
      if (error instanceof CertlineError) return;
      throw error;
    }
    const { hash } = await planOf(host, certificate, place, of);
    if (place.deploy.planHash === undefined || place.deploy.planHash === hash) return;
    const since = `has changed since the preview: the plan is ${hash} now`;
    // Of several targets the name is said before.
    throw invalidAt(place, of, 'plan_drifted', place.wave === null ? `${of.name} ${since}` : since);
  }

  return {
    target,
    state,
    async preview(deploy, certificate, signal) {
      const limit = AbortSignal.timeout(patiences.preview * patience);
      return sideBySide(placesOf(deploy), hostsAtOnce, async (place) => {
        const of = await target(place.deploy.target, `${place.path}.target`);
        if (place.wave === null) return viewOf(place, of, certificate, (host) => state(host, signal));
        try {
          return await viewOf(place, of, certificate, (host) => stateSoon(host, signal, limit));
        } catch (error) {
          if (!(error instanceof CertlineError)) throw error;
          return viewFailure({ target: of, deploy: place.deploy, wave: place.wave, now: clock.now() }, error);
        }
      });
    },
    async check(deploy, certificate, signal) {
      const limit = AbortSignal.timeout(patiences.check * patience);
      const found = await sideBySide(placesOf(deploy), hostsAtOnce, async (place) => {
        const problems: Problem[] = [];
        await noting(problems, () => checkAt(place, certificate, signal, limit));
        return problems;
      });
      const problems = found.flat();
      if (problems.length > 0) throw refusal(problems);
    },
  };
}
