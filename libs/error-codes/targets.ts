import { type ErrorCodeEntry, entry } from './entry.ts';

/** What goes wrong on the way to a target and on it. */
export const targetCodes = {
  target_unreachable: entry(
    502,
    'retryable',
    'The target does not answer',
    'Check that the host is up and its address right, or that the folder is there and mounted on the machine of the worker, and that a worker of its pool runs (`DEPLOYMENT_POOLS`).',
  ),
  validation_unserved: entry(
    503,
    'retryable',
    'No validation worker answers',
    'Start one (`node services/validation-worker/main.ts`), then ask again.',
  ),
  pool_unserved: entry(
    502,
    'retryable',
    'No deployment worker serves the pool of the target',
    'Start a deployment worker with the pool in `DEPLOYMENT_POOLS`, or give the target another `pool`. An order then goes on by itself.',
  ),
  target_timeout: entry(502, 'retryable', 'The target did not finish in time', 'See what the host is busy with.'),
  ssh_login_refused: entry(
    502,
    'retryable',
    'The host does not let certline in',
    'Check the credential of the target, and `administrators_authorized_keys` on the host.',
  ),
  host_key_changed: entry(
    502,
    'retryable',
    'The host shows another SSH host key than the pinned one',
    'If the host was really set up anew, set `transport.hostKey` of the target to the new fingerprint.',
  ),
  access_denied: entry(
    502,
    'retryable',
    'The host denies access',
    'Give the account that certline uses there the rights that `detail` names; on IIS hosts it must be in the administrators group.',
  ),
  iis_missing: entry(502, 'retryable', 'There is no IIS on the host', 'Install the role Web Server (IIS).'),
  rollout_stopped: entry(
    409,
    'permanent',
    'An order of the rollout was called off, so the next waves were not begun',
    'Retry the order when the rollout may go on: what is deployed stays, the other targets are taken up again.',
  ),
  commit_conflict: entry(
    502,
    'retryable',
    'Somebody else keeps changing the configuration of IIS',
    'Nothing: it is tried again. See which other tools change applicationHost.config.',
  ),
  key_unusable: entry(
    502,
    'retryable',
    'Windows cannot use the private key of the certificate',
    'Remove the certificate from the store of the host, then retry the order.',
  ),
  target_refused: entry(
    502,
    'retryable',
    'The target refuses the change',
    'See `detail` and `evidence` for what it says, and mend it there, or the setting that is named. It is tried again unless waiting cannot help; then retry the order.',
  ),
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
    '`detail` has the reason for each name, and what would help. After a change on the host retry the order; other options need a new request, with a certificate that is there `POST /v1/certificates/:id/deployments`.',
  ),
  superseded: entry(
    409,
    'permanent',
    'A newer certificate is there',
    'Nothing, if that one is to stay. To put this one in its place by hand: `POST /v1/certificates/:id/deployments`.',
  ),
  plan_drifted: entry(
    409,
    'retryable',
    'The host changed since it was planned',
    'An order without `planHash` is planned anew by itself. With one: preview again, and send the request again with the new hash; for an order that failed, as `POST /v1/certificates/:id/deployments` with its certificate.',
  ),
  outside_window: entry(
    409,
    'retryable',
    'The target may not be changed now',
    'Nothing: it is deployed in the next of the `windows` of the target.',
  ),
  deployment_under_way: entry(
    409,
    'retryable',
    'A deployment to the target is under way',
    'Ask again when it is done: until then nobody can tell what ought to be there.',
  ),
  credential_unknown: entry(422, 'permanent', 'No such credential', 'Create it with `POST /v1/credentials`.'),
  binding_conflict: entry(409, 'permanent', 'A binding stands in the way', 'See `detail`; free the host name or port.'),
  pfx_unreadable: entry(502, 'permanent', 'The host cannot read the PFX', 'Report it with the host’s Windows build.'),
  handshake_mismatch: entry(
    502,
    'retryable',
    'The host serves another certificate',
    'See `detail` and `evidence`; the bindings were put back. Check what listens at that address and port.',
  ),
} as const satisfies Record<string, ErrorCodeEntry>;
