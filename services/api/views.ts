import { z } from 'zod';
import { errorCodes, planKinds } from '#libs/error-codes';
import type { Account } from '#libs/model/account';
import { type Certificate, keyTypes } from '#libs/model/certificate';
import { challengeMethodSchema, challengeRuleSchema } from '#libs/model/challenge-method';
import type { Credential } from '#libs/model/credential';
import {
  type Deployment,
  deploymentStatuses,
  deploySchema,
  isComplete,
  type Order,
  orderStatuses,
  stageNames,
  stageOf,
} from '#libs/model/order';
import { type Target, targetCommon, targetSettings } from '#libs/model/target';
import { wantedRecords } from '#libs/model/wanted-records';
import { bulkRetryEventSchema } from '#libs/store/bulk-retry-events';
import { type OrderEvent, orderEventSchema, type StreamEvent } from '#libs/store/order-events';
import { parkingEventSchema } from '#libs/store/parking-events';
import { targetEventSchema } from '#libs/store/target-events';
import { nextStep } from './next-step.ts';

const time = z.iso.datetime();
const iso = (ms: number): string => new Date(ms).toISOString();
const isoOrNull = (ms: number | null): string | null => (ms === null ? null : iso(ms));

export const orderView = z.object({
  id: z.string(),
  status: z.enum(orderStatuses),
  complete: z.boolean().describe('Whether it got where it was meant to go'),
  stage: z
    .enum(stageNames)
    .nullable()
    .describe('The stage that has it; the one that had it last when it failed or was cancelled'),
  epoch: z.number().int(),
  names: z.array(z.string()),
  account: z.string(),
  challenge: challengeMethodSchema.nullable().describe('For the names that none of `challenges` matches'),
  challenges: z.array(challengeRuleSchema),
  key: z.object({ type: z.enum(keyTypes) }),
  profile: z.string().nullable(),
  preferredChain: z.string().nullable(),
  replaces: z.string().nullable().describe('The certificate that this one is ordered to replace'),
  source: z
    .object({
      target: z.string(),
      site: z.number(),
      skipped: z.array(z.object({ host: z.string(), code: z.string() })),
    })
    .nullable(),
  deploy: deploySchema.describe('As it was understood; `rollout` has the targets of each wave'),
  deployments: z
    .array(
      z.object({
        target: z.string(),
        wave: z.number().int().describe('Counted from 1'),
        order: z.string().nullable().describe('The order for this target alone; null until its wave begins'),
        status: z.enum(deploymentStatuses),
        error: z
          .object({ code: z.string(), detail: z.string() })
          .nullable()
          .describe('Why it is not deployed; null in lists'),
        nextAttemptAt: time.nullable().describe('Null in lists'),
      }),
    )
    .describe('What became of each of several targets, in the order of the waves; empty for one target'),
  partOf: z.string().nullable().describe('The order with several targets that this one is a part of'),
  identifiers: z.array(z.object({ name: z.string(), status: z.enum(['pending', 'valid', 'invalid']) })),
  attempts: z
    .object({ validation: z.number(), issuance: z.number(), deployment: z.number() })
    .describe('Failed attempts of the current try'),
  error: z
    .object({
      code: z.string(),
      detail: z.string(),
      advice: z.string().describe('What to do next'),
      stage: z.enum(stageNames),
      at: time,
      evidence: z.record(z.string(), z.unknown()).optional(),
      plan: z.enum(planKinds).exactOptional().describe('What was to be done about it'),
      mostAttempts: z.number().int().exactOptional().describe('When such a failure is given fewer than the stage'),
    })
    .nullable(),
  nextAttemptAt: time.nullable(),
  next: z
    .string()
    .nullable()
    .describe('What happens next and when, in words; null when it is complete or was called off'),
  records: z
    .array(
      z.object({
        type: z.literal('TXT'),
        name: z.string(),
        value: z.string(),
        visible: z.boolean().optional().describe('Whether all name servers showed it at the last look'),
      }),
    )
    .describe(
      'What a person has to put into DNS, and leave there until the order is validated; what is for dns-persist-01 is for all orders to come',
    ),
  parkedOn: z
    .string()
    .nullable()
    .describe('The account or credential that was refused: it goes on when that is mended'),
  certificate: z.string().nullable(),
  createdAt: time,
  updatedAt: time,
});

function viewDeployment(deployment: Deployment, part: Order | undefined) {
  const { error = null, nextAttemptAt = null } = part ?? {};
  const why = error === null ? null : { code: error.code, detail: error.detail };
  return { ...deployment, error: why, nextAttemptAt: isoOrNull(nextAttemptAt) };
}

/** An order as the API shows it; with the orders of its targets, by id, also what holds these up. */
export function viewOrder(order: Order, parts?: ReadonlyMap<string, Order>): z.input<typeof orderView> {
  const { id, epoch, identifiers, attempts, error, parkedOn, request, deployments, partOf } = order;
  const { names, account, challenge, challenges, keyType, profile, preferredChain, source, deploy } = request;
  return {
    ...{
      id,
      status: order.status,
      complete: isComplete(order),
      stage: stageOf(order),
      epoch,
      names,
      account,
      challenge,
      challenges,
    },
    ...{
      key: { type: keyType },
      profile,
      preferredChain,
      replaces: request.replaces ?? null,
      source,
      deploy,
      partOf,
      identifiers,
      parkedOn,
    },
    deployments: deployments.map((one) => viewDeployment(one, parts?.get(one.order ?? ''))),
    attempts: { validation: attempts.validation, issuance: attempts.issuance, deployment: attempts.deployment },
    error: error === null ? null : { ...error, advice: errorCodes[error.code].advice, at: iso(error.at) },
    nextAttemptAt: isoOrNull(order.nextAttemptAt),
    next: nextStep(order),
    records: wantedRecords(order),
    certificate: 'certificate' in order ? order.certificate : null,
    createdAt: iso(order.createdAt),
    updatedAt: iso(order.updatedAt),
  };
}

export const accountView = z.object({
  id: z.string(),
  ca: z.string(),
  directory: z.string(),
  email: z.string(),
  url: z.string().nullable().describe('The CA’s name of the account'),
  allowInternalNames: z.boolean(),
  eabKid: z.string().nullable(),
  parked: z.object({ code: z.string(), detail: z.string(), at: time }).nullable().describe('Why its orders are held'),
  createdAt: time,
});

export function viewAccount({ caBundle: _caBundle, ...account }: Account): z.input<typeof accountView> {
  const { parked, createdAt } = account;
  return { ...account, parked: parked === null ? null : { ...parked, at: iso(parked.at) }, createdAt: iso(createdAt) };
}

const targetRecord = { id: z.string(), ...targetCommon, createdAt: time };
export const targetView = z.discriminatedUnion('kind', [
  z.object({ ...targetRecord, ...targetSettings.iis.shape }),
  z.object({ ...targetRecord, ...targetSettings.folder.shape }),
  z.object({ ...targetRecord, ...targetSettings.ccs.shape }),
  z.object({
    ...targetRecord,
    ...targetSettings.webhook.shape,
    url: z.string().describe('Its path and query, which may be as good as a password, are shown as `…`'),
  }),
]);

function withoutPath(url: string): string {
  const { origin, pathname, search } = new URL(url);
  return pathname === '/' && search === '' ? url : `${origin}/…`;
}

export function viewTarget(target: Target): z.input<typeof targetView> {
  const createdAt = iso(target.createdAt);
  return target.kind === 'webhook' ? { ...target, createdAt, url: withoutPath(target.url) } : { ...target, createdAt };
}

const credentialRecord = { id: z.string(), name: z.string(), createdAt: time };
export const credentialView = z.discriminatedUnion('kind', [
  z.object({
    ...credentialRecord,
    kind: z.literal('ssh'),
    username: z.string(),
    method: z.enum(['private-key', 'password']),
  }),
  z.object({ ...credentialRecord, kind: z.literal('secret') }),
  z.object({
    ...{ ...credentialRecord, kind: z.literal('dns'), provider: z.string() },
    settings: z.record(z.string(), z.unknown()),
    parked: z.object({ code: z.string(), detail: z.string(), at: time }).nullable().describe('Why its orders are held'),
  }),
]);

export function viewCredential({ createdAt, ...credential }: Credential): z.input<typeof credentialView> {
  const shown = { ...credential, createdAt: iso(createdAt) };
  if (shown.kind !== 'dns') return shown;
  const { parked, provider, settings } = shown;
  // As with targets: what receives webhooks may have a token in its address.
  const isHidden = provider === 'webhook' && typeof settings.url === 'string';
  const visible = isHidden ? { ...settings, url: withoutPath(String(settings.url)) } : settings;
  return { ...shown, settings: visible, parked: parked === null ? null : { ...parked, at: iso(parked.at) } };
}

export const certificateView = z.object({
  id: z.string(),
  order: z.string(),
  account: z.string(),
  names: z.array(z.string()),
  key: z.object({ type: z.enum(keyTypes) }),
  serial: z.string(),
  thumbprint: z.string().describe('SHA-1, as Windows shows it'),
  issuer: z.string(),
  notBefore: time,
  notAfter: time,
  renewAt: time,
  replaces: z.string().nullable().describe('The certificate that this one was ordered to replace'),
  replacedBy: z.string().nullable().describe('The first certificate that was issued to replace this one'),
  createdAt: time,
});

export function viewCertificate(certificate: Certificate): z.input<typeof certificateView> {
  const { id, order, account, names, keyType, serial, thumbprint, issuer } = certificate;
  const { notBefore, notAfter, renewAt, createdAt, replaces = null, replacedBy = null } = certificate;
  return {
    ...{ id, order, account, names, key: { type: keyType }, serial, thumbprint, issuer },
    ...{ replaces, replacedBy },
    ...{ notBefore: iso(notBefore), notAfter: iso(notAfter), renewAt: iso(renewAt), createdAt: iso(createdAt) },
  };
}

export const eventView = orderEventSchema.extend({ at: time, nextAttemptAt: time.optional() });

export function viewEvent(event: OrderEvent): z.input<typeof eventView> {
  const { nextAttemptAt, ...rest } = event;
  return { ...rest, at: iso(event.at), ...(nextAttemptAt === undefined ? {} : { nextAttemptAt: iso(nextAttemptAt) }) };
}

export const targetEventView = targetEventSchema.extend({ at: time });
export const parkingEventView = parkingEventSchema.extend({
  on: z
    .string()
    .describe('The account or credential; from `…_parked` on it is `parkedOn` of the orders that are held for it'),
  at: time,
});

export const bulkRetryEventView = bulkRetryEventSchema.extend({ at: time });

/** An event of the live stream as the API shows it. */
export function viewStreamEvent(event: StreamEvent): object {
  return 'order' in event ? viewEvent(event) : { ...event, at: iso(event.at) };
}

/** A page of a list. */
export const pageOf = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), cursor: z.string().nullable().describe('Give it as `cursor` for the next page') });

export const pageQuery = z.strictObject({
  cursor: z
    .string()
    .regex(/^\d+\../, 'give the `cursor` of the page before')
    .optional(),
  limit: z.coerce.number().int().min(1).max(200).default(50),
});
