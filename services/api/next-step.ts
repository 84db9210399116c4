import { isFinal, type Order, stageOf } from '#libs/model/order';
import { retryableStages } from '#libs/model/retry-by-hand';
import { restartPolicy, stages } from '#libs/queues/stages';

const iso = (ms: number): string => new Date(ms).toISOString();

/** What is done at the next attempt, and how often it still may be. */
function attemptWords(
  { error, attempts, restarts, stageSince }: Order,
  stage: keyof typeof stages,
  at: number,
): string {
  const { retry, deadline } = stages[stage];
  const end = `given up on ${iso(stageSince + deadline)} at the latest`;
  const most = (limit: number): number => Math.min(limit, error?.mostAttempts ?? limit);
  switch (error?.plan) {
    case 'wait':
      return `Looked at again at ${iso(at)}: waiting uses no attempt; ${end}.`;
    case 'restart':
      return `Begins anew at ${iso(at)} with ACME order ${restarts + 1} of ${most(restartPolicy.attempts)} at the most; ${end}.`;
    default:
      return `Tried again at ${iso(at)}, attempt ${attempts[stage] + 1} of ${most(retry.attempts)}; ${end}.`;
  }
}

function rolloutWords({ deployments }: Order): string | null {
  const open = deployments.find(({ status }) => status === 'under way');
  if (open === undefined) return null;
  return `Wave ${open.wave} of ${deployments.at(-1)?.wave} is under way: \`deployments\` has what each target waits for.`;
}

/** What happens to an order next and when, in words; null for one that is complete or was called off. */
export function nextStep(order: Order): string | null {
  if (order.status === 'failed') {
    if (order.partOf !== null) return `Nothing by itself; retry ${order.partOf}, of which it is a part.`;
    return `Nothing by itself; it can be retried from ${retryableStages(order).join(' or ')}.`;
  }
  const stage = stageOf(order);
  if (isFinal(order) || stage === null) return null;
  if (order.parkedOn !== null) return `Held until ${order.parkedOn} is mended; it then goes on by itself.`;
  if (order.nextAttemptAt !== null) return attemptWords(order, stage, order.nextAttemptAt);
  if (order.startedAt !== null) return `A worker is at it: ${stage}, attempt ${order.attempts[stage] + 1}.`;
  return rolloutWords(order) ?? `Due: the next ${stage} worker takes it.`;
}
