import type { CertlineError } from '../errors.ts';
import type { Certificate } from './certificate.ts';
import {
  type AcmeOrderRef,
  type CancelledOrder,
  type Deploy,
  type DeployedOrder,
  type Deployment,
  type FailedOrder,
  type IssuedOrder,
  isComplete,
  type Order,
  type OrderError,
  type OrderRequest,
  type PendingOrder,
  type StageName,
  stageOf,
  type TargetDeploy,
  type ValidatedOrder,
} from './order.ts';

/** The parts every status has, fresh for the stage that comes next. */
function carry(order: Order, now: number) {
  const { id, version, epoch, createdAt, request, identifiers, attempts, restarts, presented, partOf, deployments } =
    order;
  const kept = {
    id,
    version,
    epoch,
    createdAt,
    request,
    identifiers,
    attempts,
    restarts,
    presented,
    partOf,
    deployments,
  };
  return {
    ...kept,
    ...(order.placedBy === undefined ? {} : { placedBy: order.placedBy }),
    updatedAt: now,
    error: null,
    nextAttemptAt: null,
    startedAt: null,
    parkedOn: null,
    stageSince: now,
  };
}

const noAttempts = { validation: 0, issuance: 0, deployment: 0 };

/** The targets of a rollout, none of them begun; nothing without one. */
function undeployed({ deploy }: OrderRequest): Deployment[] {
  if (deploy.mode !== 'rollout') return [];
  return deploy.waves.flatMap((wave, index) =>
    wave.map(({ target }) => ({ target, wave: index + 1, order: null, status: 'waiting' as const })),
  );
}

/** A new order at the beginning of its way. */
export function newOrder(id: string, request: OrderRequest, now: number): PendingOrder {
  return {
    id,
    version: 0,
    epoch: 1,
    createdAt: now,
    updatedAt: now,
    request,
    identifiers: request.names.map((name) => ({ name, status: 'pending' })),
    attempts: { ...noAttempts },
    restarts: 0,
    error: null,
    nextAttemptAt: null,
    startedAt: null,
    parkedOn: null,
    stageSince: now,
    presented: [],
    partOf: null,
    deployments: undeployed(request),
    status: 'pending',
    acmeOrder: null,
  };
}

/** A new order for a certificate that is there: it begins at deployment. */
export function newDeployment(id: string, request: OrderRequest, certificate: string, now: number): IssuedOrder {
  const { acmeOrder: _none, ...order } = newOrder(id, request, now);
  const identifiers = order.identifiers.map(({ name }) => ({ name, status: 'valid' as const }));
  return { ...order, identifiers, status: 'issued', certificate };
}

/**
 * A new order that puts a certificate which is there somewhere. `first` is what it was ordered with, if that is still known: a retry from
 * validation, should it come to that, asks for a certificate of the same kind.
 */
export function redeployment(
  id: string,
  certificate: Pick<Certificate, 'id' | 'names' | 'account' | 'keyType'>,
  deploy: Deploy,
  first: OrderRequest | undefined,
  now: number,
): IssuedOrder {
  const { names, account, keyType } = certificate;
  const request: OrderRequest = {
    ...{ names, account, keyType, deploy },
    challenge: first ? first.challenge : { type: 'http-01', via: 'responder' },
    challenges: first?.challenges ?? [],
    profile: first?.profile ?? null,
    preferredChain: first?.preferredChain ?? null,
    source: null,
  };
  return newDeployment(id, request, certificate.id, now);
}

/** Every name is proved: the CA will issue. */
export function validated(order: PendingOrder, acmeOrder: AcmeOrderRef, now: number): ValidatedOrder {
  const identifiers = order.identifiers.map(({ name }) => ({
    name,
    status: 'valid' as const,
  }));
  return {
    ...carry(order, now),
    identifiers,
    presented: [],
    status: 'validated',
    acmeOrder,
    signing: null,
  };
}

/** The certificate is there. */
export function issued(order: ValidatedOrder, certificate: string, now: number): IssuedOrder {
  return { ...carry(order, now), status: 'issued', certificate };
}

/**
 * The order that deploys the certificate of a rollout on one of its targets. Its id is saved in the rollout first: placing it twice is
 * then harmless.
 */
export function partOfRollout(whole: IssuedOrder, deploy: TargetDeploy, id: string, now: number): IssuedOrder {
  return { ...newDeployment(id, { ...whole.request, deploy }, whole.certificate, now), partOf: whole.id };
}

/** The certificate is served where it was to be served. */
export function deployed(order: IssuedOrder, now: number): DeployedOrder {
  return {
    ...carry(order, now),
    status: 'deployed',
    certificate: order.certificate,
  };
}

function ending(order: Order) {
  return {
    acmeOrder: 'acmeOrder' in order ? order.acmeOrder : null,
    // A retry of issuance must send the same request: the CA may have taken it.
    signing: 'signing' in order ? order.signing : null,
    certificate: 'certificate' in order ? order.certificate : null,
  };
}

/** Given up, until a person asks for a retry. */
export function failed(order: Order, stage: StageName, error: OrderError, now: number): FailedOrder {
  return {
    ...carry(order, now),
    ...ending(order),
    presented: [],
    status: 'failed',
    stage,
    error,
  };
}

/** Called off, with the targets that were not begun. A certificate that was issued stays. */
export function cancelled(order: Order, now: number): CancelledOrder {
  const stage = stageOf(order) ?? 'validation';
  const deployments = order.deployments.map((one) =>
    one.status === 'waiting' ? { ...one, status: 'cancelled' as const } : one,
  );
  return {
    ...carry(order, now),
    ...ending(order),
    deployments,
    presented: [],
    status: 'cancelled',
    stage,
    error: order.error,
  };
}

/** Back to validation with a new ACME order, by itself: epoch + 1. */
export function restarted(order: PendingOrder | ValidatedOrder, now: number): PendingOrder {
  return {
    ...carry(order, now),
    epoch: order.epoch + 1,
    identifiers: order.identifiers.map(({ name }) => ({
      name,
      status: 'pending',
    })),
    restarts: order.restarts + 1,
    presented: [],
    stageSince: order.stageSince,
    status: 'pending',
    acmeOrder: null,
  };
}

/** A worker has the order: that none came is past. */
export function reached<T extends Order>(order: T): T {
  return order.error?.code === 'pool_unserved' ? { ...order, error: null } : order;
}

/** Let go after its account was mended: epoch + 1, so that its job is a new one; the time it was held does not count. */
export function resumed<T extends Order>(order: T, now: number): T {
  return {
    ...order,
    epoch: order.epoch + 1,
    updatedAt: now,
    stageSince: now,
    nextAttemptAt: null,
    startedAt: null,
    parkedOn: null,
  };
}

/** Due now instead of later, because a person says so: epoch + 1, so that its job is a new one. Its deadline stays. */
export function continued(order: PendingOrder, now: number): PendingOrder {
  return { ...order, epoch: order.epoch + 1, updatedAt: now, nextAttemptAt: null };
}

/** A failed order taken up again by a person at one of its `retryableStages`: epoch + 1, all budgets fresh. */
export function retried(order: FailedOrder, from: StageName, now: number): Order {
  const base = {
    ...carry(order, now),
    epoch: order.epoch + 1,
    attempts: { ...noAttempts },
    restarts: 0,
    presented: [],
  };
  if (from === 'deployment' && order.certificate !== null) {
    // What is deployed stays so; the rest gets orders of its own anew.
    const deployments = order.deployments.map((one) =>
      one.status === 'deployed' ? one : { ...one, order: null, status: 'waiting' as const },
    );
    return { ...base, deployments, status: 'issued', certificate: order.certificate };
  }
  if (from === 'issuance' && order.acmeOrder !== null) {
    return {
      ...base,
      status: 'validated',
      acmeOrder: order.acmeOrder,
      signing: order.signing,
    };
  }
  const identifiers = order.identifiers.map(({ name }) => ({
    name,
    status: 'pending' as const,
  }));
  return { ...base, identifiers, deployments: undeployed(order.request), status: 'pending', acmeOrder: null };
}

/** Whether an order can still be called off: nothing has been deployed and it has not ended. */
export function isCancellable(order: Order): boolean {
  return !isComplete(order) && order.status !== 'cancelled' && order.status !== 'failed';
}

/** The record of a failure. */
export function orderError(error: CertlineError, stage: StageName, now: number): OrderError {
  const { code, message: detail, evidence, plan } = error;
  return {
    code,
    detail,
    stage,
    at: now,
    plan: plan.kind,
    ...('attempts' in plan ? { mostAttempts: plan.attempts } : {}),
    ...(evidence === undefined ? {} : { evidence }),
  };
}
