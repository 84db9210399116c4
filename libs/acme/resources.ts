import { z } from 'zod';
import { CertlineError } from '#libs/errors';
import { readRetryAfter } from '../retry-after.ts';
import type { AcmeCall } from './operations.ts';
import { problemSchema } from './problem-document.ts';
import type { TransportAnswer } from './transport.ts';

/** RFC 3339 to ms since the epoch. What cannot be read is as good as absent: no CA's clock format may stop an order. */
const timeSchema = z
  .string()
  .transform((text) => {
    const time = Date.parse(text);
    return Number.isNaN(time) ? null : time;
  })
  .nullish()
  .transform((time) => time ?? null);

const orNull = <T extends z.ZodType>(schema: T) => schema.nullish().transform((value) => value ?? null);

const identifierSchema = z.object({ type: z.string(), value: z.string() });

/** An account object (RFC 8555 §7.1.2), as far as we need it. */
export const accountResourceSchema = z.object({
  status: z.enum(['valid', 'deactivated', 'revoked']),
});

/** An ACME order (RFC 8555 §7.1.3). Times are ms since the epoch. */
export const orderSchema = z.object({
  status: z.enum(['pending', 'ready', 'processing', 'valid', 'invalid']),
  expires: timeSchema,
  identifiers: z.array(identifierSchema),
  /** URLs. */
  authorizations: z.array(z.url()),
  /** URL that takes the CSR. */
  finalize: z.url(),
  /** URL of the certificate; null until the order is valid. */
  certificate: orNull(z.url()),
  /** The profile that the CA settled on. */
  profile: orNull(z.string()),
  error: orNull(problemSchema),
});

/** A challenge (RFC 8555 §7.1.5). `type` is open: a CA may offer what we do not know. */
export const challengeSchema = z.object({
  type: z.string(),
  url: z.url(),
  /** Null for types without one, as dns-persist-01. */
  token: orNull(z.string()),
  status: z.enum(['pending', 'processing', 'valid', 'invalid']),
  error: orNull(problemSchema),
  /** What the CA did at the host: addresses, URLs. For evidence only. */
  validationRecord: z.array(z.unknown()).catch([]),
  /** CAs that a dns-persist-01 record may name. */
  'issuer-domain-names': z.array(z.string()).optional(),
});

/** An authorization (RFC 8555 §7.1.4). Times are ms since the epoch. */
export const authorizationSchema = z
  .object({
    status: z.enum(['pending', 'valid', 'invalid', 'deactivated', 'expired', 'revoked']),
    expires: timeSchema,
    identifier: identifierSchema,
    wildcard: z.boolean().catch(false),
    challenges: z.array(challengeSchema),
  })
  .transform((authorization) => ({
    ...authorization,
    /** The name as it was ordered: with `*.` where the authorization is a wildcard's. */
    name: `${authorization.wildcard ? '*.' : ''}${authorization.identifier.value}`,
  }));

/** What the CA suggests about renewing a certificate (RFC 9773 §4.2). Times are ms since the epoch. */
export const renewalInfoSchema = z.object({
  suggestedWindow: z.object({
    start: z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
    end: z.iso.datetime({ offset: true }).transform((text) => Date.parse(text)),
  }),
  explanationURL: orNull(z.string()),
});
export type RenewalInfo = z.output<typeof renewalInfoSchema> & Timed;

/** When the CA asks to be asked again, in ms since the epoch; null when it does not say. */
interface Timed {
  retryAfter: number | null;
}
/** `error` is why an invalid order failed, with its plan. */
export type AcmeOrder = Omit<z.output<typeof orderSchema>, 'error'> & { error: CertlineError | null } & Timed;
export type AcmeChallenge = z.output<typeof challengeSchema> & Timed;
export type Authorization = Omit<z.output<typeof authorizationSchema>, 'challenges'> & {
  challenges: z.output<typeof challengeSchema>[];
} & Timed;

/**
 * The object in a successful answer.
 * @throws CertlineError `ca_protocol_error` when it is not what ACME says
 */
export function readResource<T extends z.ZodType>(schema: T, answer: TransportAnswer, call: AcmeCall): z.output<T> {
  let json: unknown;
  try {
    json = JSON.parse(answer.body);
  } catch {
    throw unreadable(answer, call, 'no JSON');
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const where = issue?.path.join('.') || 'the whole';
  throw unreadable(answer, call, `${where}: ${issue?.message}`);
}

/** As `readResource`, with the time of the Retry-After header. */
export function readTimed<T extends z.ZodType>(
  schema: T,
  answer: TransportAnswer,
  call: AcmeCall,
  now: number,
): z.output<T> & Timed {
  return Object.assign({}, readResource(schema, answer, call), {
    retryAfter: readRetryAfter(answer.headers, now),
  });
}

/** The error for an answer that ACME does not foresee. */
export function unreadable(answer: TransportAnswer, call: AcmeCall, what: string): CertlineError {
  return new CertlineError(
    'ca_protocol_error',
    `The CA answers ${call.operation} with something that is not ACME (${what}).`,
    {
      evidence: {
        operation: call.operation,
        url: call.url,
        status: answer.status,
      },
    },
  );
}
