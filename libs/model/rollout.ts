import type {
  CancelledOrder,
  DeployedOrder,
  Deployment,
  FailedOrder,
  IssuedOrder,
  Order,
  OrderError,
} from './order.ts';
import { deployed, failed } from './transitions.ts';

/** What a look at a rollout leads to. */
export interface RolloutStep<T extends Order> {
  /** The rollout as it now stands; the same object when nothing is new. */
  order: T;
  /** What happened, in lines for people. */
  progress: string[];
}

/** The orders of deployments, by id. Those that are deployed need not be there. */
export type Parts = ReadonlyMap<string, Order>;

/** Targets that are named in an error; the others are counted. */
const named = 5;

const counted = (count: number): string => `${count} target${count === 1 ? '' : 's'}`;

function statusOf(part: Order): Deployment['status'] {
  switch (part.status) {
    case 'deployed':
    case 'failed':
    case 'cancelled':
      return part.status;
    default:
      return 'under way';
  }
}

function lineOf({ wave, target }: Deployment, part: Order): string {
  const status = statusOf(part);
  if (status === 'under way') return `wave ${wave}: ${target} is taken up again`;
  return `wave ${wave}: ${target} ${status}${part.status === 'failed' ? ` (${part.id}, ${part.error.code})` : ''}`;
}

/** The deployments as their orders have it: one that failed may have been taken up again by itself. */
function takeOver({ deployments }: Order, parts: Parts): { deployments: Deployment[]; progress: string[] } {
  const progress: string[] = [];
  const taken = deployments.map((one) => {
    const part = one.status === 'deployed' ? undefined : parts.get(one.order ?? '');
    if (part === undefined || statusOf(part) === one.status) return one;
    progress.push(lineOf(one, part));
    return { ...one, status: statusOf(part) };
  });
  return { deployments: taken, progress };
}

/** Why a wave did not succeed: the error of the first target that failed, with what became of the others. */
function errorOf(deployments: readonly Deployment[], wave: number, parts: Parts, now: number): OrderError {
  const bad = deployments.filter((one) => one.wave === wave && (one.status === 'failed' || one.status === 'cancelled'));
  const errorAt = ({ order, status }: Deployment) => (status === 'failed' ? parts.get(order ?? '')?.error : null);
  const count = (status: Deployment['status']): number => deployments.filter((one) => one.status === status).length;
  const which = bad.slice(0, named).map((one) => {
    const error = errorAt(one);
    return `${one.target} ${one.status} (${one.order}${error ? `, ${error.code}: ${error.detail}` : ''})`;
  });
  const more = bad.length > named ? ` and ${bad.length - named} more` : '';
  const others = [
    `${count('deployed')} of ${deployments.length} targets have the certificate`,
    ...(count('under way') > 0 ? [`${count('under way')} still under way`] : []),
    `${count('waiting')} not begun`,
  ];
  return {
    // An order that was called off may have an error of its time before.
    code: bad.flatMap((one) => errorAt(one)?.code ?? [])[0] ?? 'rollout_stopped',
    detail: `wave ${wave}: ${which.join('; ')}${more}; ${others.join(', ')}`,
    stage: 'deployment',
    at: now,
    evidence: { wave, orders: bad.slice(0, named).map(({ order }) => order) },
  };
}

/**
 * What a rollout does next: takes over what became of its parts, begins a wave when the one before is deployed, ends when all are or a wave
 * has failed; a wave that has is let come to its end first. Pure.
 *
 * @param parts the orders of the deployments that have one; one that is missing is still to be placed
 * @param newPartId ids for the orders of a wave that begins
 */
export function nextOfRollout(
  whole: IssuedOrder,
  parts: Parts,
  now: number,
  newPartId: () => string,
): RolloutStep<IssuedOrder | DeployedOrder | FailedOrder> {
  const { deployments, progress } = takeOver(whole, parts);
  const seen: IssuedOrder = { ...whole, deployments };
  const open = deployments.find(({ status }) => status !== 'deployed');
  if (open === undefined) return { order: deployed(seen, now), progress };

  const { wave } = open;
  const ofWave = deployments.filter((one) => one.wave === wave);
  if (ofWave.some(({ status }) => status === 'failed' || status === 'cancelled')) {
    const error = errorOf(deployments, wave, parts, now);
    if (ofWave.every(({ status }) => status !== 'under way'))
      return { order: failed(seen, 'deployment', error, now), progress };
    return { order: progress.length > 0 ? { ...seen, error, updatedAt: now } : whole, progress };
  }
  const waiting = ofWave.filter(({ status }) => status === 'waiting');
  if (waiting.length === 0)
    return { order: progress.length > 0 ? { ...seen, error: null, updatedAt: now } : whole, progress };
  progress.push(`wave ${wave} of ${deployments.at(-1)?.wave ?? wave} begins: ${counted(waiting.length)}`);
  const begun = deployments.map((one) =>
    waiting.includes(one) ? { ...one, order: newPartId(), status: 'under way' as const } : one,
  );
  return { order: { ...seen, deployments: begun, error: null, updatedAt: now }, progress };
}

/**
 * A rollout that has ended, with what became of the parts that outlived it: one may have been called off while a worker was deploying it, or
 * have been taken up again by itself. Pure.
 *
 * @param parts the orders of the deployments that have one
 */
export function afterRollout<T extends FailedOrder | CancelledOrder>(
  whole: T,
  parts: Parts,
  now: number,
): RolloutStep<T> {
  const { deployments, progress } = takeOver(whole, parts);
  const settled = deployments.map((one) => {
    if (whole.status !== 'cancelled' || one.status !== 'under way' || parts.has(one.order ?? '')) return one;
    progress.push(`wave ${one.wave}: ${one.target} cancelled`);
    // It was not placed yet, and will not be: the id is of no order.
    return { ...one, order: null, status: 'cancelled' as const };
  });
  return { order: progress.length > 0 ? { ...whole, deployments: settled, updatedAt: now } : whole, progress };
}
