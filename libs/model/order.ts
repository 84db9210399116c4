import { z } from 'zod';
import { type ErrorCode, errorCodes, planKinds } from '../error-codes.ts';
import { keyTypes } from './certificate.ts';
import { challengeMethodSchema, challengeRuleSchema, dnsChallengeTypes } from './challenge-method.ts';

export const orderStatuses = ['pending', 'validated', 'issued', 'deployed', 'failed', 'cancelled'] as const;
export type OrderStatus = (typeof orderStatuses)[number];

export const stageNames = ['validation', 'issuance', 'deployment'] as const;
export type StageName = (typeof stageNames)[number];

/** What is done on one target. */
export const targetDeploySchema = z.object({
  mode: z.enum(['site', 'auto', 'all', 'store']),
  target: z.string(),
  site: z.number().int().positive().exactOptional(),
  updateOnly: z.boolean().exactOptional(),
  addMissing: z.boolean().exactOptional(),
  blankHost: z.boolean().exactOptional(),
  port: z.number().int().min(1).max(65_535).exactOptional(),
  ip: z.string().exactOptional(),
  sni: z.boolean().exactOptional(),
  store: z.enum(['My', 'WebHosting']).exactOptional(),
  /** Which certificates of bindings are replaced: any that is there, or only one that certline put there. */
  replace: z.enum(['any', 'ours']).exactOptional(),
  exportable: z.boolean().exactOptional(),
  readers: z.array(z.string()).exactOptional(),
  /** Hash of the plan that a person has seen: with another one nothing is changed. */
  planHash: z.string().exactOptional(),
  /** Nothing but these bindings is touched (keys as of `bindingKey`): for the repair of drift. */
  only: z.array(z.string()).exactOptional(),
});
export type TargetDeploy = z.infer<typeof targetDeploySchema>;

export const deploySchema = z.discriminatedUnion('mode', [
  z.object({ mode: z.literal('none') }),
  targetDeploySchema,
  /** Several targets, wave after wave; each target once. The order has an order of its own for each of them. */
  z.object({ mode: z.literal('rollout'), waves: z.array(z.array(targetDeploySchema).min(1)).min(1) }),
]);
export type Deploy = z.infer<typeof deploySchema>;
export type Rollout = Extract<Deploy, { mode: 'rollout' }>;

/** Whether there is one target, whose workers do the deployment. */
export function isForOneTarget(deploy: Deploy): deploy is TargetDeploy {
  return deploy.mode !== 'none' && deploy.mode !== 'rollout';
}

/** Every target that a deployment is for. */
export function targetsOf(deploy: Deploy): string[] {
  switch (deploy.mode) {
    case 'none':
      return [];
    case 'rollout':
      return deploy.waves.flat().map(({ target }) => target);
    default:
      return [deploy.target];
  }
}

/** What was asked for, after all checks: renewal needs nothing else. */
export const orderRequestSchema = z.object({
  names: z.array(z.string()),
  account: z.string(),
  /** For the names that none of `challenges` matches; null when these are for all names. */
  challenge: challengeMethodSchema.nullable(),
  /** Methods by pattern of name; the first that matches counts. */
  challenges: z.array(challengeRuleSchema).default([]),
  keyType: z.enum(keyTypes),
  profile: z.string().nullable(),
  preferredChain: z.string().nullable(),
  /** The certificate that this one is ordered to replace. */
  replaces: z.string().exactOptional(),
  /** The IIS site the names were read from, with the hosts left out because no public CA validates them. */
  source: z
    .object({
      target: z.string(),
      site: z.number().int(),
      skipped: z.array(z.object({ host: z.string(), code: z.string() })),
    })
    .nullable(),
  deploy: deploySchema,
});
export type OrderRequest = z.infer<typeof orderRequestSchema>;

/** A code of another version, met while an upgrade is under way, must not make the record unreadable. */
export const errorCodeSchema = z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]).catch('unexpected');

const orderErrorSchema = z.object({
  code: errorCodeSchema,
  detail: z.string(),
  stage: z.enum(stageNames),
  at: z.number(),
  evidence: z.record(z.string(), z.unknown()).optional(),
  /** What the stage did about it, or tried to: it may have been the last attempt. */
  plan: z.enum(planKinds).exactOptional(),
  /** Attempts, or ACME orders, that such a failure is given; those of the stage when it says nothing. */
  mostAttempts: z.number().int().exactOptional(),
});
export type OrderError = z.infer<typeof orderErrorSchema>;

/** The CA's object behind an order, known by its URL: at most one certificate comes of it. */
const acmeOrderSchema = z.object({
  url: z.string(),
  finalize: z.string(),
  expires: z.number().nullable(),
});
export type AcmeOrderRef = z.infer<typeof acmeOrderSchema>;

/** `expires`: end of the authorization, ms since the epoch. */
const presented = { name: z.string(), expires: z.number() };
const presentedHttp = { ...presented, type: z.literal('http-01'), token: z.string(), keyAuthorization: z.string() };

/** A challenge whose answer is there, or may be, until the order drops it. It is saved before anything is written anywhere. */
const presentedSchema = z.union([
  /** Answered from the store, until `expires` at the latest. */
  z.object({ ...presentedHttp, via: z.literal('responder').default('responder') }),
  /** Answered by the host of a target; `site` is the one whose folder takes the answer, null when only a listener can be had. */
  z.object({ ...presentedHttp, via: z.literal('target'), target: z.string(), site: z.number().int().nullable() }),
  /** A file. */
  z.object({ ...presentedHttp, via: z.literal('webroot'), folder: z.string() }),
  /** A TXT record. */
  z.object({
    ...presented,
    type: z.enum(dnsChallengeTypes),
    /** Null where a person makes the record. */
    credential: z.string().nullable(),
    /** Name of the record, after CNAMEs were followed, and the zone that it lies in. */
    record: z.string(),
    zone: z.string(),
    value: z.string(),
    /** When it was first wanted, ms since the epoch. */
    since: z.number(),
  }),
]);
export type PresentedChallenge = z.infer<typeof presentedSchema>;
export type PresentedHttp<V extends 'responder' | 'target' | 'webroot' = 'responder' | 'target' | 'webroot'> = Extract<
  PresentedChallenge,
  { via: V }
>;
export type PresentedDns = Exclude<PresentedChallenge, { type: 'http-01' }>;

/** Key and signing request of this epoch, saved before finalize; the key itself is sealed under its name. */
const signingSchema = z.object({
  privateKey: z.string(),
  csr: z.string(),
  attempt: z.number().int(),
});

/** `waiting`: its wave has not begun; the others are the ends of its own order. */
export const deploymentStatuses = ['waiting', 'under way', 'deployed', 'failed', 'cancelled'] as const;

/** One target of a rollout. */
const deploymentSchema = z.object({
  target: z.string(),
  /** Counted from 1. */
  wave: z.number().int(),
  /** The order that deploys there; null until its wave begins. */
  order: z.string().nullable(),
  status: z.enum(deploymentStatuses),
});
export type Deployment = z.infer<typeof deploymentSchema>;

const common = {
  id: z.string(),
  /** Grows by one with every save: the token of compare-and-set. */
  version: z.number().int(),
  /** How often the order was started over. */
  epoch: z.number().int(),
  createdAt: z.number(),
  updatedAt: z.number(),
  request: orderRequestSchema,
  identifiers: z.array(
    z.object({
      name: z.string(),
      status: z.enum(['pending', 'valid', 'invalid']),
    }),
  ),
  /** Attempts used per stage, of the current try. */
  attempts: z.record(z.enum(stageNames), z.number().int()),
  /** ACME orders abandoned since the order was placed or last retried. */
  restarts: z.number().int(),
  /** The last failure, kept while the order is tried again and cleared by the next success. */
  error: orderErrorSchema.nullable(),
  /** When the current stage is tried next, if it waits. */
  nextAttemptAt: z.number().nullable(),
  /** When a worker took up the current stage, ms since the epoch; null when none has, or its attempt has ended without a doubt. */
  startedAt: z.number().nullable().default(null),
  /** The account or credential whose mending the order waits for. */
  parkedOn: z.string().nullable(),
  /** When the current stage began to be due: it gives up `stages[stage].deadlineMs` later. */
  stageSince: z.number(),
  presented: z.array(presentedSchema),
  /** The order whose rollout this one is a part of. */
  partOf: z.string().nullable().default(null),
  /** The API key that placed it, where keys may have so many unfinished orders only. */
  placedBy: z.string().exactOptional(),
  /** What became of each target of a rollout, in the order of its waves; empty without one. */
  deployments: z.array(deploymentSchema).default([]),
};

export const pendingOrderSchema = z.object({
  ...common,
  status: z.literal('pending'),
  acmeOrder: acmeOrderSchema.nullable(),
});
export const validatedOrderSchema = z.object({
  ...common,
  status: z.literal('validated'),
  acmeOrder: acmeOrderSchema,
  signing: signingSchema.nullable(),
});
export const issuedOrderSchema = z.object({
  ...common,
  status: z.literal('issued'),
  certificate: z.string(),
});
export const deployedOrderSchema = z.object({
  ...common,
  status: z.literal('deployed'),
  certificate: z.string(),
});
const ended = {
  ...common,
  stage: z.enum(stageNames),
  acmeOrder: acmeOrderSchema.nullable(),
  signing: signingSchema.nullable(),
  certificate: z.string().nullable(),
};
export const failedOrderSchema = z.object({
  ...ended,
  status: z.literal('failed'),
  error: orderErrorSchema,
});
export const cancelledOrderSchema = z.object({
  ...ended,
  status: z.literal('cancelled'),
});

/** One run: get this certificate and put it there. A union on `status`; each status carries what the next stage needs. */
export const orderSchema = z.discriminatedUnion('status', [
  pendingOrderSchema,
  validatedOrderSchema,
  issuedOrderSchema,
  deployedOrderSchema,
  failedOrderSchema,
  cancelledOrderSchema,
]);
export type Order = z.infer<typeof orderSchema>;
export type PendingOrder = z.infer<typeof pendingOrderSchema>;
export type ValidatedOrder = z.infer<typeof validatedOrderSchema>;
export type IssuedOrder = z.infer<typeof issuedOrderSchema>;
export type DeployedOrder = z.infer<typeof deployedOrderSchema>;
export type FailedOrder = z.infer<typeof failedOrderSchema>;
export type CancelledOrder = z.infer<typeof cancelledOrderSchema>;

/**
 * Whether a worker has begun to deploy the order, and no attempt since has found out what the target has: it may have the certificate already,
 * whatever became of the worker, or of the connection. That is found out before anything else is done with the order.
 */
export function isInHand({ status, startedAt }: Order): boolean {
  return status === 'issued' && startedAt !== null;
}

/** Whether a rollout that was called off still has to hear of parts that were under way. */
export function isWindingDown({ status, deployments }: Order): boolean {
  return status === 'cancelled' && deployments.some((one) => one.status === 'under way');
}

/** Whether the order got where it was meant to go. */
export function isComplete(order: Order): boolean {
  return order.status === 'deployed' || (order.status === 'issued' && order.request.deploy.mode === 'none');
}

/** Whether nothing will happen to the order unless a person asks for it. */
export function isFinal(order: Order): boolean {
  return isComplete(order) || order.status === 'failed' || order.status === 'cancelled';
}

/** The stage that has the order now; for a failed or cancelled order the one that had it last; null when it is complete. */
export function stageOf(order: Order): StageName | null {
  switch (order.status) {
    case 'pending':
      return 'validation';
    case 'validated':
      return 'issuance';
    case 'issued':
      return isComplete(order) ? null : 'deployment';
    case 'deployed':
      return null;
    case 'failed':
    case 'cancelled':
      return order.stage;
  }
}

/** The stage that has something to do for the order; null when it has ended, or is held until its account is mended. */
export function activeStage(order: Order): StageName | null {
  return isFinal(order) || order.parkedOn !== null ? null : stageOf(order);
}
