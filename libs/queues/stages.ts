import type { StageName } from '../model/order.ts';
import { defaultPool } from '../model/target.ts';

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

/** How a stage tries again. Times in milliseconds. */
export interface RetryPolicy {
  /** Attempts that may fail before the order does. */
  attempts: number;
  /** Delay before the second attempt; each further one is `factor` times longer, up to `cap`; jittered by ±20 %. */
  first: number;
  factor: number;
  cap: number;
}

export interface Stage {
  name: StageName;
  /** Jobs one process works on at the same time. */
  concurrency: number;
  retry: RetryPolicy;
  /** How long an order may be in the stage, waits included. */
  deadline: number;
}

/** The pipeline as data, in the order of the way. */
export const stages: Record<StageName, Stage> = {
  validation: {
    name: 'validation',
    concurrency: 20,
    retry: { attempts: 20, first: 5_000, factor: 2, cap: hour },
    deadline: 8 * day,
  },
  issuance: {
    name: 'issuance',
    concurrency: 20,
    retry: { attempts: 20, first: 5_000, factor: 2, cap: hour },
    deadline: 7 * day,
  },
  deployment: {
    name: 'deployment',
    concurrency: 10,
    retry: { attempts: 40, first: 5_000, factor: 2, cap: hour },
    deadline: 14 * day,
  },
};

/**
 * New ACME orders after failed validations: 1 min, 10 min, 100 min, 1000 min, then daily, as Let's Encrypt's integration guide advises,
 * which also keeps inside its limit of five failed validations per name and hour.
 */
export const restartPolicy: RetryPolicy = {
  attempts: 6,
  first: minute,
  factor: 10,
  cap: day,
};

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
