import type { DeployedOrder, Deployment, FailedOrder, IssuedOrder, Order, OrderError } from './order.ts';
import { deployed, failed } from './transitions.ts';

/** What a look at a rollout leads to. */
export interface RolloutStep {
  /** The rollout as it now stands; the same object when nothing is new. */
  order: IssuedOrder | DeployedOrder | FailedOrder;
  /** What happened, in lines for people. */
  progress: string[];
}

/** Targets that are named in an error; the others are counted. */
const named = 5;

function statusOf(part: Order | undefined): Deployment['status'] {
  switch (part?.status) {
    case 'deployed':
    case 'failed':
    case 'cancelled':
      return part.status;
    default:
      return 'under way';
  }
}

/** Why a wave did not succeed: the error of the first target that failed, with what became of the others. */
function errorOf(whole: IssuedOrder, wave: number, parts: ReadonlyMap<string, Order>, now: number): OrderError {
  const { deployments } = whole;
  const bad = deployments.filter((one) => one.wave === wave && (one.status === 'failed' || one.status === 'cancelled'));
  const errors = bad.flatMap(({ order }) => parts.get(order ?? '')?.error ?? []);
  const count = (status: Deployment['status']): number => deployments.filter((one) => one.status === status).length;
  const which = bad.slice(0, named).map(({ target, order, status }) => {
    const error = parts.get(order ?? '')?.error;
    return `${target} ${status} (${order}${error && status === 'failed' ? `, ${error.code}: ${error.detail}` : ''})`;
  });
  const more = bad.length > named ? ` and ${bad.length - named} more` : '';
  const others = `${count('deployed')} of ${deployments.length} targets have the certificate, ${count('waiting')} were not begun`;
  return {
    code: errors[0]?.code ?? 'rollout_stopped',
    detail: `wave ${wave}: ${which.join('; ')}${more}; ${others}`,
    stage: 'deployment',
    at: now,
    evidence: { wave, orders: bad.map(({ order }) => order) },
  };
}

/**
 * What a rollout does next: takes over what became of its parts, begins a wave when the one before is deployed, ends when all are or a wave
 * has failed; a wave that has is let come to its end first. Pure.
 *
 * @param parts the orders of the deployments that have one, by id; one that is missing is still to be placed
 * @param newPartId ids for the orders of a wave that begins
 */
export function nextOfRollout(
  whole: IssuedOrder,
  parts: ReadonlyMap<string, Order>,
  now: number,
  newPartId: () => string,
): RolloutStep {
  const progress: string[] = [];
  const deployments = whole.deployments.map((one) => {
    if (one.order === null || one.status !== 'under way') return one;
    const status = statusOf(parts.get(one.order));
    if (status === one.status) return one;
    progress.push(`wave ${one.wave}: ${one.target} ${status}`);
    return { ...one, status };
  });
  const seen: IssuedOrder = { ...whole, deployments };
  const open = deployments.find(({ status }) => status !== 'deployed');
  if (open === undefined) return { order: deployed(seen, now), progress };

  const { wave } = open;
  const ofWave = deployments.filter((one) => one.wave === wave);
  if (ofWave.some(({ status }) => status === 'failed' || status === 'cancelled')) {
    const error = errorOf(seen, wave, parts, now);
    if (ofWave.every(({ status }) => status !== 'under way'))
      return { order: failed(seen, 'deployment', error, now), progress };
    return { order: progress.length > 0 ? { ...seen, error, updatedAt: now } : whole, progress };
  }
  if (ofWave.some(({ status }) => status === 'waiting')) {
    progress.push(`wave ${wave} of ${deployments.at(-1)?.wave ?? wave} begins: ${ofWave.length} targets`);
    const begun = deployments.map((one) =>
      one.wave === wave && one.status === 'waiting'
        ? { ...one, order: newPartId(), status: 'under way' as const }
        : one,
    );
    return { order: { ...seen, deployments: begun, updatedAt: now }, progress };
  }
  return { order: progress.length > 0 ? { ...seen, updatedAt: now } : whole, progress };
}
