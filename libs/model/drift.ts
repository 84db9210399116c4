import { z } from 'zod';
import { errorCodeSchema, targetDeploySchema } from './order.ts';

/** Where on an IIS host a certificate is bound; `bindingInformation` is empty with `ftp`, whose certificate is the site's. */
export interface BindingPlace {
  siteId: number;
  protocol: 'https' | 'ftp';
  bindingInformation: string;
}

/** Name of a binding among all of a host. Host names are the same in any case. */
export function bindingKey({ siteId, protocol, bindingInformation }: BindingPlace): string {
  return `${siteId}|${protocol}|${bindingInformation.toLowerCase()}`;
}

/** The binding of a name that `bindingKey` made. Throws for any other text. */
export function bindingPlace(key: string): BindingPlace {
  const [, siteId, protocol, bindingInformation = ''] = /^(\d+)\|(https|ftp)\|(.*)$/s.exec(key) ?? [];
  if (siteId === undefined || (protocol !== 'https' && protocol !== 'ftp')) throw new Error(`${key} names no binding`);
  return { siteId: Number(siteId), protocol, bindingInformation };
}

/** What a deployment left at one place of a target, and what is to be there until another one changes it. */
export const expectationSchema = z.object({
  /** On an IIS host as `bindingKey` has it; of a central store the file, of a folder its name. One expectation for each. */
  place: z.string(),
  /** The order that deployed it, for its `deploy`; the certificate with its thumbprint. */
  order: z.string(),
  certificate: z.string(),
  thumbprint: z.string(),
  /** Certificate store; null at targets that have none. */
  store: z.string().nullable(),
  sslFlags: z.number().int(),
  /** As it would be asked for again: without `planHash` and `only`. */
  deploy: targetDeploySchema,
  /** When it was deployed, ms since the epoch. */
  at: z.number(),
});
export type Expectation = z.infer<typeof expectationSchema>;

/** `nothing`: no certificate of ours is to be there. `unknown`: the target cannot be looked at, `error` says why. */
export const driftStates = ['nothing', 'in_sync', 'drifted', 'unknown'] as const;

/** One place that is not as it should be. */
export const differenceSchema = z.object({
  place: z.string(),
  /** Name of the IIS site; null elsewhere, and when the site is gone. */
  site: z.string().nullable(),
  order: z.string(),
  certificate: z.string(),
  expected: z.object({ thumbprint: z.string(), store: z.string().nullable() }),
  /** What is there; null when nothing is. */
  actual: z.object({ thumbprint: z.string().nullable(), store: z.string().nullable() }).nullable(),
  /** What is wrong, for a person. */
  detail: z.string(),
  /** Why a repair would leave it as it is; null when it would put it right. */
  unrepairable: z.string().nullable(),
});
export type Difference = z.infer<typeof differenceSchema>;

/** What a look at a target found. Times are ms since the epoch. */
export const driftReportSchema = z.object({
  target: z.string(),
  checkedAt: z.number(),
  state: z.enum(driftStates),
  /** Since when it has been in this state, as far as looks tell. */
  since: z.number(),
  /** Places looked at. */
  places: z.number().int(),
  differences: z.array(differenceSchema),
  error: z.object({ code: errorCodeSchema, detail: z.string() }).nullable(),
});
export type DriftReport = z.infer<typeof driftReportSchema>;
/** A look by itself: `since` follows from the look before. */
export type DriftFinding = Omit<DriftReport, 'since'>;

/** What is done about drift: told, or told and made good by a deployment. */
export const driftPolicies = ['report', 'repair'] as const;
