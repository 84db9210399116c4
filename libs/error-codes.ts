import { authorityCodes } from './error-codes/certificate-authority.ts';
import { dnsCodes } from './error-codes/dns.ts';
import { type ErrorCodeEntry, entry } from './error-codes/entry.ts';
import { requestCodes } from './error-codes/requests.ts';
import { targetCodes } from './error-codes/targets.ts';

export { type PlanKind, planKinds } from './error-codes/entry.ts';

/** The registry of error codes: metrics label, problem type, log field and a row of the README's table (a test compares them). */
export const errorCodes = {
  ...requestCodes,
  ...authorityCodes,
  ...targetCodes,
  ...dnsCodes,
  // the pipeline itself
  worker_crashed_repeatedly: entry(
    500,
    'permanent',
    'The order kept crashing its worker',
    'Read the worker’s log, then retry the order.',
  ),
  deadline_passed: entry(500, 'permanent', 'The order took too long', 'See its earlier errors, then retry it.'),
  unexpected: entry(500, 'retryable', 'An error nobody foresaw', 'Read the log of the order; report it.'),
} as const satisfies Record<string, ErrorCodeEntry>;

export type ErrorCode = keyof typeof errorCodes;
