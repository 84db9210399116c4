import { createHash } from 'node:crypto';
import { z } from 'zod';
import { directoryOf, knownCas } from './account.ts';
import { registeredDomain } from './domain-name.ts';
import type { Order } from './order.ts';

/** What an order counts for. */
export const orderLimitNames = [
  'orders_per_account',
  'certificates_per_domain',
  'certificates_per_name_set',
  'failed_validations_per_name',
] as const;
export type OrderLimitName = (typeof orderLimitNames)[number];

/** What a request counts for, by the operation that it is; all others are `requests`. */
const requestLimits = {
  directory: 'requests_directory',
  newNonce: 'requests_new_nonce',
  newAccount: 'requests_new_account',
  newOrder: 'requests_new_order',
  revokeCert: 'requests_revoke_cert',
  renewalInfo: 'requests_renewal_info',
} as const;
export type RequestLimitName = 'requests' | (typeof requestLimits)[keyof typeof requestLimits];

/** The limit that a request to a CA counts for. */
export function requestLimitOf(operation: string): RequestLimitName {
  return operation in requestLimits ? requestLimits[operation as keyof typeof requestLimits] : 'requests';
}

/** What a CA limits, as it is called in configuration and metrics. */
export const caLimitNames = [...orderLimitNames, 'requests', ...Object.values(requestLimits)] as const;
export type CaLimitName = (typeof caLimitNames)[number];

const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** So many in a window; they come back one by one, as many in each window (a token bucket). */
export interface Rate {
  count: number;
  windowMs: number;
  /** As it was written: `50/7d`. */
  text: string;
}

const rateSchema = z.string().transform((text, context): Rate => {
  const [, count, length, unit] = /^([1-9]\d{0,8})\/([1-9]\d{0,4})(ms|[smhd])$/.exec(text) ?? [];
  if (count !== undefined && length !== undefined && unit !== undefined)
    return { count: Number(count), windowMs: Number(length) * unitMs[unit as keyof typeof unitMs], text };
  context.addIssue({ code: 'custom', message: `${text} is no limit; give one like 300/3h or 50/7d` });
  return z.NEVER;
});

/** The limits of one CA. */
export interface CaLimits extends Partial<Record<CaLimitName, Rate>> {
  /** Whether a certificate for exactly the names of an earlier one counts neither per account nor per domain. */
  renewals_exempt?: boolean;
  /** Whether an order that replaces a certificate, when the CA suggests it (ARI, RFC 9773), is held for none of the limits of orders. */
  ari_exempt?: boolean;
}

const rate = rateSchema.nullable().optional();
const rates = Object.fromEntries(caLimitNames.map((name) => [name, rate])) as Record<CaLimitName, typeof rate>;
const isCa = (ca: string): boolean => Object.hasOwn(knownCas, ca) || (URL.canParse(ca) && ca.startsWith('https://'));
const changesSchema = z
  .record(
    z.string(),
    z.strictObject({ ...rates, renewals_exempt: z.boolean().optional(), ari_exempt: z.boolean().optional() }),
  )
  .superRefine((changes, context) => {
    const message = `no CA has this name: give ${Object.keys(knownCas).join(', ')} or the https URL of an ACME directory`;
    for (const ca of Object.keys(changes).filter((one) => !isCa(one)))
      context.addIssue({ code: 'custom', path: [ca], message });
  });
/** What differs from the presets, by name or directory URL of the CA; null takes a limit away. */
export type CaLimitChanges = z.output<typeof changesSchema>;

/** `CaLimitChanges` as JSON text. */
export const caLimitChangesSchema = z.string().transform((text, context): CaLimitChanges => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const { data, error } = changesSchema.safeParse(value);
  if (data) return data;
  for (const { path, message } of error.issues)
    context.addIssue({
      code: 'custom',
      message:
        path.length > 0
          ? `${path.join(' ')}: ${message}`
          : 'give JSON like {"letsencrypt": {"orders_per_account": "900/3h"}}',
    });
  return z.NEVER;
});

/**
 * https://letsencrypt.org/docs/rate-limits/ and …/docs/staging-environment/, read 2026-08. Requests, which are limited per address of the client:
 * their burst capacity, in the time in which it comes back at their rate per second.
 */
const presets: Record<keyof typeof knownCas, Record<string, string | true>> = {
  letsencrypt: {
    orders_per_account: '300/3h',
    certificates_per_domain: '50/7d',
    certificates_per_name_set: '5/7d',
    failed_validations_per_name: '5/1h',
    requests: '125/500ms',
    requests_directory: '40/1s',
    requests_new_nonce: '10/500ms',
    requests_new_account: '15/3s',
    requests_new_order: '200/667ms',
    requests_revoke_cert: '100/10s',
    requests_renewal_info: '100/100ms',
    renewals_exempt: true,
    ari_exempt: true,
  },
  'letsencrypt-staging': {
    orders_per_account: '1500/3h',
    failed_validations_per_name: '200/1h',
    requests: '20/1s',
    requests_directory: '40/1s',
    requests_new_nonce: '10/500ms',
    requests_new_account: '15/3s',
    requests_new_order: '40/2s',
    requests_revoke_cert: '100/10s',
    requests_renewal_info: '100/100ms',
    renewals_exempt: true,
    ari_exempt: true,
  },
};

/** The limits by directory URL: the presets with what is changed; a CA without any is not in it. */
export function caLimitTable(changes: CaLimitChanges = {}): ReadonlyMap<string, CaLimits> {
  const table = new Map<string, CaLimits>();
  for (const [ca, limits] of [...Object.entries(changesSchema.parse(presets)), ...Object.entries(changes)]) {
    const directory = directoryOf(ca);
    const merged = Object.entries({ ...table.get(directory), ...limits });
    table.set(directory, Object.fromEntries(merged.filter(([, limit]) => limit !== null)));
  }
  return table;
}

/** One limit, of the one thing that an order counts for. */
export interface Claim {
  limit: OrderLimitName;
  /** The account, the domain, the set of names, or the name and the account. */
  key: string;
  /** What `key` stands for, for a person. */
  about: string;
  /** Null where the CA has no such limit, or the order is exempt: the CA may say all the same that there is to be no more of it for a while. */
  rate: Rate | null;
}

/** A name for a set of names, whatever their order. */
export function nameSetKey(names: readonly string[]): string {
  return createHash('sha256')
    .update([...names].sort().join(' '))
    .digest('base64url');
}

/** The key of failed validations: of a wildcard it is that of the name without `*.`, as authorizations have it (RFC 8555 §7.1.4). */
export function failedValidationsKey(account: string, name: string): string {
  return `${account} ${name.replace(/^\*\./, '')}`;
}

/**
 * All that a new ACME order counts for at its CA. `isRenewal`: a certificate for exactly these names was issued before. At Let's Encrypt such
 * an order is exempt from the limits per account and per domain; that of the set of names and that of failed validations hold.
 */
export function claimsOf(
  { account, names }: { account: string; names: readonly string[] },
  limits: CaLimits,
  isRenewal: boolean,
): Claim[] {
  const isExempt = isRenewal && limits.renewals_exempt === true;
  const claim = (limit: OrderLimitName, key: string, about: string, exempt = false): Claim => ({
    ...{ limit, key, about },
    rate: exempt ? null : (limits[limit] ?? null),
  });
  const bare = [...new Set(names.map((name) => name.replace(/^\*\./, '')))];
  return [
    claim('orders_per_account', account, `account ${account}`, isExempt),
    ...[...new Set(names.map(registeredDomain))].map((domain) =>
      claim('certificates_per_domain', domain, domain, isExempt),
    ),
    claim('certificates_per_name_set', nameSetKey(names), 'exactly these names'),
    ...bare.map((name) => claim('failed_validations_per_name', failedValidationsKey(account, name), name)),
  ];
}

/** Which claims a refusal by the CA is about, by its words (Boulder's); that of the account when they name no other. */
export function refusedClaims(claims: readonly Claim[], words: string): Claim[] {
  const of = (limit: OrderLimitName): Claim[] => claims.filter((claim) => claim.limit === limit);
  const told = new Set(words.toLowerCase().match(/[\w-]+(\.[\w-]+)+/g));
  const named = (limit: OrderLimitName): Claim[] => {
    const some = of(limit).filter(({ about }) => told.has(about));
    return some.length > 0 ? some : of(limit);
  };
  if (/\bexact set of\b/i.test(words)) return of('certificates_per_name_set');
  if (/\bfailed (authorizations|validations)\b/i.test(words)) return named('failed_validations_per_name');
  if (/\bcertificates\b.*\balready issued\b/i.test(words)) return named('certificates_per_domain');
  return of('orders_per_account');
}

/**
 * Whether an order has ended, and its CA has surely issued nothing for it: what was counted for its certificate is free again. CAs count one when it is
 * issued, so that an order that may have been finalized stays counted, unless the CA gave its ACME order up.
 */
export function hasNoCertificate(order: Order): boolean {
  if (order.status !== 'failed' && order.status !== 'cancelled') return false;
  const isGivenUp = order.status === 'failed' && order.error.plan === 'restart';
  return order.stage === 'validation' || (order.stage === 'issuance' && (order.signing === null || isGivenUp));
}
