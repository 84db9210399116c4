import { type ErrorCodeEntry, entry } from './entry.ts';

/** What is wrong with a request to the API. */
export const requestCodes = {
  // requests
  request_invalid: entry(
    422,
    'permanent',
    'The request is not valid',
    'Mend the fields that `errors` names and send it again.',
  ),
  json_invalid: entry(
    400,
    'permanent',
    'The body is not JSON',
    'Send a JSON object with `Content-Type: application/json`.',
  ),
  body_too_large: entry(413, 'permanent', 'The body is too large', 'Send at most 1 MiB.'),
  unauthenticated: entry(401, 'permanent', 'No valid API key', 'Send `Authorization: Bearer <key>`.'),
  scope_missing: entry(403, 'permanent', 'The API key lacks a scope', 'Use a key with the scope that `detail` names.'),
  not_found: entry(404, 'permanent', 'There is nothing here', 'Check the id or the path.'),
  too_many_requests: entry(429, 'permanent', 'Too many requests', 'Wait as long as `Retry-After` says.'),
  idempotency_key_reused: entry(
    422,
    'permanent',
    'The Idempotency-Key was used with another body',
    'Use a new key for a new order.',
  ),
  order_state_conflict: entry(
    409,
    'permanent',
    'The order is not in a state for this',
    'Read the order again; see `detail`. A failed order can be retried; one that is not complete, has not failed and is in no worker’s hands can be cancelled.',
  ),
  name_taken: entry(
    409,
    'permanent',
    'The name is taken',
    'Use another name, or change what has it: `detail` says how.',
  ),
  record_in_use: entry(409, 'permanent', 'Something still uses it', 'Change or end what `detail` names first.'),
  master_key_missing: entry(
    503,
    'permanent',
    'This API process holds no master key',
    'Give it MASTER_KEY_FILE, or ask a process that has it.',
  ),
  store_unavailable: entry(
    503,
    'retryable',
    'Redis does not answer',
    'Nothing was stored; send the request again. Check `/readyz`.',
  ),
  // names
  names_missing: entry(422, 'permanent', 'No names', 'Give `names`, or a `source` site that has host-name bindings.'),
  name_invalid: entry(422, 'permanent', 'Not a host name', 'Correct the spelling.'),
  name_is_ip_address: entry(422, 'permanent', 'An IP address', 'Give a host name.'),
  name_not_public: entry(
    422,
    'permanent',
    'Not a public domain name',
    'Use a public domain name, or an account at a private CA with `allowInternalNames`.',
  ),
  name_is_public_suffix: entry(422, 'permanent', 'A public suffix', 'Give a name below it.'),
  challenge_unmatched: entry(
    422,
    'permanent',
    'No challenge is named for a name',
    'Add a rule to `challenges` that matches the name, or a `challenge` for all others.',
  ),
  webroot_not_allowed: entry(
    422,
    'permanent',
    'A folder for http-01 that certline may not write to',
    'Add the folder, or one above it, to WEBROOTS of the validation workers, then retry the order.',
  ),
  wildcard_needs_dns_01: entry(422, 'permanent', 'A wildcard with http-01', 'Use dns-01 for wildcards.'),
  wildcard_covers_name: entry(422, 'permanent', 'A wildcard beside a name it covers', 'Leave out one of the two.'),
  too_many_names: entry(422, 'permanent', 'Too many names', 'Split the order.'),
  // records a request names
  account_unknown: entry(422, 'permanent', 'No such account', 'Create it with `POST /v1/accounts`.'),
  target_unknown: entry(422, 'permanent', 'No such target', 'Create it with `POST /v1/targets`.'),
  challenge_unsupported: entry(
    422,
    'permanent',
    'This challenge type cannot be used',
    'Use one of the types that `detail` names.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
