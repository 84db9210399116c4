import type { Presented, PresentedChallenge } from '../model/order.ts';

/** A challenge of an authorization that is to be met. */
export interface OpenChallenge {
  name: string;
  token: string;
  keyAuthorization: string;
  /** End of the authorization, ms since the epoch. */
  expires: number;
}

/** One way to meet challenges. All throw `CertlineError`s with the plan for the stage, and may run twice. */
export interface Solver<T extends PresentedChallenge['type'] = PresentedChallenge['type']> {
  /** Finds out what is to be where; writes nothing. */
  prepare(challenge: OpenChallenge, signal: AbortSignal): Promise<Presented<T>>;
  /** Writes the answer, once the order says that it may be there. */
  present(challenge: Presented<T>, signal: AbortSignal): Promise<void>;
  /** Looks where the CA will look. Throws with what it saw when the answer is not there. */
  check(challenge: Presented<T>, signal: AbortSignal): Promise<void>;
}
