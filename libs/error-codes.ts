export type PlanKind = 'permanent' | 'retryable' | 'wait' | 'restart' | 'park';

interface ErrorCodeEntry {
  /** HTTP status when the API answers with it. */
  status: number;
  /** The usual plan of a stage; a thrower who knows more (a Retry-After, say) gives another. */
  plan: Exclude<PlanKind, 'wait'>;
  title: string;
  /** What a person does next. */
  advice: string;
}

const entry = (status: number, plan: ErrorCodeEntry['plan'], title: string, advice: string): ErrorCodeEntry => ({
  status,
  plan,
  title,
  advice,
});

/** The registry of error codes: metrics label, problem type, log field and a row of the README's table (a test compares them). */
export const errorCodes = {
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
    'Read the order again; `detail` says which states allow it.',
  ),
  name_taken: entry(409, 'permanent', 'The name is taken', 'Use another name.'),
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
  // the CA: RFC 8555 §6.7 problem types and transport
  ca_rate_limited: entry(
    429,
    'retryable',
    'A rate limit of the CA',
    'Nothing: it is tried again when the CA says. Raise the limit with the CA if it persists.',
  ),
  ca_account_paused: entry(
    403,
    'permanent',
    'The CA has paused this account for these names',
    'Follow the link in `detail`, then retry the order.',
  ),
  ca_unavailable: entry(
    502,
    'retryable',
    'The CA answers with an error of its own',
    'Nothing: it is tried again. See the status page of the CA.',
  ),
  ca_unreachable: entry(502, 'retryable', 'The CA cannot be reached', 'Check the network and the directory URL.'),
  ca_untrusted: entry(
    502,
    'permanent',
    'The CA’s TLS certificate is not trusted',
    'Give the right `caBundle` to the account.',
  ),
  ca_bad_nonce: entry(502, 'retryable', 'The CA refuses every nonce', 'Nothing: it is tried again.'),
  ca_malformed: entry(
    502,
    'permanent',
    'The CA calls a request malformed',
    'Report it with the log line of the order.',
  ),
  ca_protocol_error: entry(
    502,
    'retryable',
    'The CA’s answer is not ACME',
    'Check the directory URL; a proxy may stand between.',
  ),
  ca_signature_algorithm: entry(502, 'permanent', 'The CA does not take ES256', 'Use another CA or account.'),
  acme_order_not_ready: entry(502, 'retryable', 'The ACME order is not ready', 'Nothing: its state is read again.'),
  acme_order_gone: entry(502, 'restart', 'The ACME order is gone or expired', 'Nothing: a new one is made.'),
  acme_order_invalid: entry(502, 'restart', 'The ACME order became invalid', 'See the error of its identifiers.'),
  acme_order_taken: entry(
    502,
    'restart',
    'The ACME order served another order',
    'Nothing: a new one is made. Some CAs give equal requests the same ACME order.',
  ),
  acme_order_processing: entry(502, 'retryable', 'The CA is still working on the order', 'Nothing: it is read again.'),
  profile_invalid: entry(
    422,
    'permanent',
    'The CA does not offer this profile',
    'Leave `profile` out or use one that the CA lists.',
  ),
  identifier_rejected: entry(
    422,
    'permanent',
    'The CA does not issue for this name',
    'Leave the name out, or use another CA.',
  ),
  caa_forbids: entry(
    422,
    'retryable',
    'A CAA record forbids this CA',
    'Add the CA to the CAA records of the domain, then retry.',
  ),
  csr_rejected: entry(502, 'permanent', 'The CA refuses the certificate request', 'Try another key type.'),
  account_missing_at_ca: entry(
    502,
    'park',
    'The CA does not know the account',
    'Send `POST /v1/accounts` for it again: its orders go on.',
  ),
  account_unauthorized: entry(
    403,
    'park',
    'The CA refuses the account',
    'Make a new account; this one is deactivated or lacks the right.',
  ),
  terms_not_agreed: entry(
    422,
    'park',
    'The CA wants its terms agreed to',
    'Read the terms in `detail`, then send `POST /v1/accounts` with `termsOfServiceAgreed: true` again.',
  ),
  eab_required: entry(
    422,
    'park',
    'The CA wants an external account binding',
    'Give `eab` with the values from the CA.',
  ),
  eab_refused: entry(
    422,
    'park',
    'The CA refuses the external account binding',
    'Check the key id and the HMAC key; most CAs let them be used once.',
  ),
  contact_refused: entry(422, 'park', 'The CA refuses the contact address', 'Give a real e-mail address.'),
  already_revoked: entry(409, 'permanent', 'The certificate is already revoked', 'Nothing.'),
  revocation_reason_bad: entry(422, 'permanent', 'The CA refuses the revocation reason', 'Use another reason.'),
  already_replaced: entry(
    409,
    'retryable',
    'The certificate was already replaced',
    'Nothing: it is ordered without `replaces`.',
  ),
  // proof of control
  http01_unreachable: entry(
    502,
    'retryable',
    'The challenge URL cannot be reached',
    'Open port 80 to the world and let it lead to the challenge port.',
  ),
  http01_wrong_answer: entry(
    502,
    'retryable',
    'The challenge URL gives another answer',
    'See `evidence`: something else answers on port 80.',
  ),
  ca_dns_problem: entry(502, 'restart', 'The CA could not resolve the name', 'Check the DNS records of the name.'),
  ca_connection_problem: entry(
    502,
    'restart',
    'The CA could not connect to the name',
    'Check the firewall; the CA validates from several places of the world.',
  ),
  ca_tls_problem: entry(502, 'restart', 'The CA met a TLS error at the name', 'Check redirects to https.'),
  ca_wrong_answer: entry(502, 'restart', 'The CA saw another answer', 'Check what answers on port 80 from outside.'),
  validation_pending: entry(502, 'retryable', 'The CA is still validating', 'Nothing: it is looked at again.'),
  validation_expired: entry(502, 'restart', 'The proof was not made in time', 'See the earlier errors of the order.'),
  // what came back
  certificate_mismatch: entry(
    502,
    'permanent',
    'The certificate is not what was asked for',
    'Report it to the CA; nothing was deployed.',
  ),
  chain_invalid: entry(
    502,
    'permanent',
    'The chain of the certificate does not hold',
    'Report it to the CA; nothing was deployed.',
  ),
  secret_unreadable: entry(
    500,
    'permanent',
    'A sealed secret cannot be opened',
    'Give the master key it was sealed with.',
  ),
  // targets
  target_unreachable: entry(
    502,
    'retryable',
    'The target does not answer',
    'Check that the host is up and its address right.',
  ),
  target_refused: entry(502, 'retryable', 'The target refuses the change', 'See `detail`.'),
  site_not_found: entry(422, 'permanent', 'No such IIS site', 'See the sites of the target.'),
  site_has_no_names: entry(
    422,
    'permanent',
    'The IIS site has no host names',
    'Give `names`, or add host names to its bindings.',
  ),
  nothing_to_bind: entry(
    422,
    'permanent',
    'No binding fits the certificate',
    'Add an http binding with the host name, or use `deploy.addMissing`.',
  ),
  plan_drifted: entry(409, 'retryable', 'The host changed since it was planned', 'Nothing: it is planned anew.'),
  binding_conflict: entry(409, 'permanent', 'A binding stands in the way', 'See `detail`; free the host name or port.'),
  pfx_unreadable: entry(502, 'permanent', 'The host cannot read the PFX', 'Report it with the host’s Windows build.'),
  handshake_mismatch: entry(
    502,
    'retryable',
    'The host serves another certificate',
    'See `evidence`: the bindings were put back as they were.',
  ),
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
