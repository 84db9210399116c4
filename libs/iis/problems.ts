import type { ErrorCode } from '../error-codes.ts';
import { CertlineError } from '../errors.ts';

/** How an IIS host says that it did not do what was asked. */
export interface HostProblem {
  /** Whether the host was not as the change expected it. */
  precondition: boolean;
  /** Windows' number of the error, `0x` and eight hexadecimal digits; null when it gave none. */
  hresult: string | null;
  message: string;
}

/** HRESULTs that say more than that the host refuses. */
const codes: Record<string, ErrorCode> = {
  // ERROR_ALREADY_EXISTS: the collection of bindings, or http.sys, has it already
  '0X800700B7': 'binding_conflict',
  // ERROR_INVALID_PASSWORD: also how builds before 17763 answer to an AES-encrypted PFX
  '0X80070056': 'pfx_unreadable',
  // NTE_BAD_DATA and CRYPT_E_ASN1_BADTAG: damaged
  '0X80090005': 'pfx_unreadable',
  '0X8009310B': 'pfx_unreadable',
};

/** A host's problem as the error of ours: `plan_drifted`, `binding_conflict`, `pfx_unreadable`, or `target_refused` for all else. */
export function hostError(problem: HostProblem): CertlineError {
  const { precondition, hresult, message } = problem;
  const code = precondition ? 'plan_drifted' : (codes[hresult?.toUpperCase() ?? ''] ?? 'target_refused');
  return new CertlineError(code, hresult === null ? message : `${message} (${hresult})`, {
    evidence: hresult === null ? {} : { hresult },
  });
}
