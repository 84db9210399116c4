import type { PresentedChallenge } from '../model/order.ts';

/** What makes sure of a challenge whose answer the order's save has made visible. */
export interface Solver {
  /** Looks where the CA will look. Throws a `CertlineError` with what it saw when the answer is not there. */
  check(challenge: PresentedChallenge, signal: AbortSignal): Promise<void>;
}
