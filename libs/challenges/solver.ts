import type { PresentedChallenge } from '../model/order.ts';

/** A challenge of the CA with the answer to it. */
export interface Challenge extends PresentedChallenge {
  keyAuthorization: string;
  /** When the answer may vanish by itself at the latest, ms since the epoch. */
  expires: number;
}

/** Makes the answer to a challenge visible. What is presented is recorded in the order first, so that it is always taken away again. */
export interface Solver {
  present(challenge: Challenge): Promise<void>;
  /** Looks where the CA will look. Throws a `CertlineError` with what it saw when the answer is not there. */
  check(challenge: Challenge, signal: AbortSignal): Promise<void>;
}
