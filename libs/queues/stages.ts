import type { ErrorCode } from '../errors.ts';
import type { StageName } from '../model/order.ts';
import { defaultPool } from '../model/target.ts';

const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

/** The delays between attempts, ms: before the second one, the third and so on; the last one repeats. */
export type Pace = readonly number[];

/** How something is tried again. */
export interface RetryPolicy {
  /** Attempts that may fail before the order does. */
  attempts: number;
  pace: Pace;
}

export interface Stage {
  name: StageName;
  /** Jobs one process works on at the same time. */
  concurrency: number;
  /** The pace is of what has none of its own in `paces`. */
  retry: RetryPolicy;
  /** How long an order may be in the stage, waits included. */
  deadline: number;
}

/** Delays that double from `first` on, up to `cap`. */
function doubling(first: number, cap: number): Pace {
  const steps = Math.ceil(Math.log2(cap / first));
  return [...Array.from({ length: steps }, (_, step) => first * 2 ** step), cap];
}

/** The pipeline as data, in the order of the way. */
export const stages: Record<StageName, Stage> = {
  validation: {
    name: 'validation',
    concurrency: 20,
    retry: { attempts: 40, pace: doubling(5 * second, hour) },
    deadline: 8 * day,
  },
  issuance: {
    name: 'issuance',
    concurrency: 20,
    retry: { attempts: 40, pace: doubling(5 * second, hour) },
    deadline: 7 * day,
  },
  deployment: {
    name: 'deployment',
    concurrency: 10,
    // A host may be away for a week.
    retry: { attempts: 180, pace: doubling(5 * second, hour) },
    deadline: 14 * day,
  },
};

/**
 * Kinds of failure that are tried again at a pace of their own, whatever the stage: a connection is soon back, a CA in trouble or a host that is down
 * is not, and a host that lets nobody in may lock the account of whoever keeps asking.
 */
export const paces: readonly { what: string; codes: readonly ErrorCode[]; pace: Pace }[] = [
  { what: 'the way to the CA', codes: ['ca_unreachable', 'ca_bad_nonce'], pace: doubling(2 * second, hour / 2) },
  { what: 'trouble of the CA', codes: ['ca_unavailable', 'ca_protocol_error'], pace: doubling(30 * second, hour) },
  { what: 'a target that is away', codes: ['target_unreachable', 'target_timeout'], pace: doubling(15 * second, hour) },
  {
    what: 'a target that lets nobody in',
    codes: ['ssh_login_refused', 'host_key_changed', 'access_denied', 'iis_missing'],
    pace: doubling(minute, hour),
  },
];

const paceByCode = new Map(paces.flatMap(({ codes, pace }) => codes.map((code) => [code, pace])));

/** The pace at which a stage tries again what failed with a code. */
export function paceOf(stage: StageName, code: ErrorCode): Pace {
  return paceByCode.get(code) ?? stages[stage].retry.pace;
}

/**
 * New ACME orders after failed validations: after 1, 10 and 100 minutes, then daily, as Let's Encrypt's integration guide advises
 * (https://letsencrypt.org/docs/integration-guide/, "Retrying failures").
 */
export const restartPolicy: RetryPolicy = { attempts: 6, pace: [minute, 10 * minute, 100 * minute, day] };

/** Queue jobs a process may crash on before the order fails: a worker that dies takes innocent jobs with it, so this is generous. */
export const poisonLimit = 20;

/** Id of the job that drives an order through a stage: a second `add` of it is a no-op. */
export function jobId(orderId: string, stage: StageName, epoch: number): string {
  return `${orderId}.${stage}.${epoch}`;
}

/** Queue of the deployments on the targets of a pool. */
export function deploymentQueue(pool: string): string {
  return pool === defaultPool ? 'deployment' : `deployment-${pool}`;
}

/** Name of the lease that tells who deploys on a target now. */
export function deploymentLease(target: string): string {
  return `deployment.${target}`;
}

/** Queue of the rollouts, which only pass orders on: any deployment worker takes them. */
export const rolloutQueue = 'rollout';

/** Queue of the requests to the hosts of a pool: its own, so that no deployment holds them up. */
export function hostRequestQueue(pool: string): string {
  return pool === defaultPool ? 'host-requests' : `host-requests-${pool}`;
}

/** Queue of the requests to validation workers, any of which takes them. */
export const validationRequestQueue = 'validation-requests';

/** Queue of the looks at the targets of a pool: whether they are as they should be. */
export function driftQueue(pool: string): string {
  return pool === defaultPool ? 'drift' : `drift-${pool}`;
}
