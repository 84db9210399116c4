import type { HostProblem } from '#libs/iis/problems';

/** HRESULTs as Windows gives them for the same reasons. */
export const hresults = {
  alreadyExists: '0x800700B7',
  invalidPassword: '0x80070056',
  noSuchLogonSession: '0x80070520',
  fileNotFound: '0x80070002',
  sharingViolation: '0x80070020',
  invalidData: '0x8007000D',
} as const;

/** Why the host does not do what it is asked, to be told to the asker. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly status: number;
  readonly problem: HostProblem;

  constructor(message: string, hresult: string | null, status = 422, precondition = false) {
    super(message);
    this.status = status;
    this.problem = { precondition, hresult, message };
  }
}

/** The host is not as a change expects it. */
export function drifted(message: string): Refusal {
  return new Refusal(message, null, 409, true);
}
