import { z } from 'zod';
import { errorCodes } from '#libs/error-codes';
import { toAsciiName } from '#libs/model/domain-name';

const time = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));

/** The conditions on failed orders, and on their names and times, as a query and a body have them. */
export const filterFields = {
  code: z
    .string()
    .refine((code) => Object.hasOwn(errorCodes, code), 'there is no such error code')
    .optional()
    .describe('Failed orders with this code in `error`'),
  account: z.string().optional().describe('Failed orders of this account'),
  target: z.string().optional().describe('Failed orders that were to be deployed to this target'),
  name: z
    .string()
    // As it is written in certificates; what has no such form is in none.
    .transform((name) => toAsciiName(name) ?? name)
    .optional()
    .describe('Orders for this name'),
  since: time.optional().describe('Placed at this time or later'),
  until: time.optional().describe('Placed before this time'),
};

interface Conditions {
  status?: string | undefined;
  code?: string | undefined;
  account?: string | undefined;
  target?: string | undefined;
  since?: number | undefined;
  until?: number | undefined;
}

/** What is wrong with conditions together: those that are known of failed orders alone need a `code`, or the status `failed`. */
export function refuseConditions(filter: Conditions, context: z.RefinementCtx): void {
  const { status, code, since, until } = filter;
  const refuse = (path: string, message: string): void => context.addIssue({ code: 'custom', path: [path], message });
  if (code !== undefined && status !== undefined && status !== 'failed')
    refuse('code', `only failed orders are found by it, not those that are ${status}`);
  for (const field of ['account', 'target'] as const)
    if (filter[field] !== undefined && code === undefined && status !== 'failed')
      refuse(field, 'only failed orders are found by it: give `status=failed` or a `code` with it');
  if (since !== undefined && until !== undefined && since >= until) refuse('until', 'lies before `since`');
}
