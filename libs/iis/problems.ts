import type { ErrorCode } from '../error-codes.ts';
import { CertlineError } from '../errors.ts';

/** How an IIS host says that it did not do what was asked. */
export interface HostProblem {
  /** Whether the host was not as the change expected it. */
  precondition: boolean;
  /** Windows' number of the error, `0x` and eight hexadecimal digits; null when it gave none. */
  hresult: string | null;
  message: string;
  /** Name of the .NET class of the error. */
  type?: string;
}

/** HRESULTs that say more than that the host refuses. */
const byHresult: Record<string, ErrorCode> = {
  // ERROR_ALREADY_EXISTS: the collection of bindings, or http.sys, has it already
  '0X800700B7': 'binding_conflict',
  // ERROR_SHARING_VIOLATION: somebody else has the configuration open
  '0X80070020': 'commit_conflict',
  // ERROR_NO_SUCH_LOGON_SESSION: what http.sys says of a key it cannot open
  '0X80070520': 'key_unusable',
  // E_ACCESSDENIED, and how CryptoAPI says it
  '0X80070005': 'access_denied',
  '0X00000005': 'access_denied',
  // REGDB_E_CLASSNOTREG: the configuration system of IIS is not there
  '0X80040154': 'iis_missing',
  // ERROR_INVALID_PASSWORD: also how builds before 17763 answer to an AES-encrypted PFX
  '0X80070056': 'pfx_unreadable',
  // NTE_BAD_DATA and CRYPT_E_ASN1_BADTAG: damaged
  '0X80090005': 'pfx_unreadable',
  '0X8009310B': 'pfx_unreadable',
};

/** Errors that Windows gives under several numbers, by their class: their messages come in the language of the host. */
const byType: Record<string, ErrorCode> = {
  // applicationHost.config changed on disk, or could not be written, at every try of the script
  'System.IO.FileLoadException': 'commit_conflict',
  'System.UnauthorizedAccessException': 'access_denied',
  'System.Security.SecurityException': 'access_denied',
};

function codeOf({ precondition, hresult, message, type = '' }: HostProblem): ErrorCode {
  if (precondition) return 'plan_drifted';
  // The file's name is the same in all languages.
  if (type === 'System.IO.FileNotFoundException' && message.includes('Microsoft.Web.Administration'))
    return 'iis_missing';
  return byHresult[hresult?.toUpperCase() ?? ''] ?? byType[type] ?? 'target_refused';
}

/**
 * A host's problem as the error of ours: `plan_drifted`, `commit_conflict`, `binding_conflict`, `key_unusable`, `access_denied`,
 * `iis_missing`, `pfx_unreadable`, or `target_refused` for all else.
 */
export function hostError(problem: HostProblem): CertlineError {
  const { hresult, message, type } = problem;
  return new CertlineError(codeOf(problem), hresult === null ? message : `${message} (${hresult})`, {
    evidence: { ...(hresult === null ? {} : { hresult }), ...(type === undefined ? {} : { type }) },
  });
}
