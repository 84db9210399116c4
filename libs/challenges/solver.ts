import type { PresentedChallenge } from '../model/order.ts';

/** A challenge of an authorization that is to be met. */
export interface OpenChallenge {
  name: string;
  /** Empty for dns-persist-01, which has none; so is the key authorization. */
  token: string;
  keyAuthorization: string;
  /** URL of the ACME account. */
  accountUrl: string;
  /** CAs that a record of dns-persist-01 may name; empty for other challenges. */
  issuerDomains: readonly string[];
  /** End of the authorization, ms since the epoch. */
  expires: number;
}

/** One way to meet the challenges of an order. All throw `CertlineError`s with the plan for the stage, and may run twice. */
export interface Solver<P extends PresentedChallenge = PresentedChallenge> {
  /** Finds out what is to be where; writes nothing. */
  prepare(challenge: OpenChallenge, signal: AbortSignal): Promise<P>;
  /** Writes the answer, once the order says that it may be there. */
  present(challenge: P, signal: AbortSignal): Promise<void>;
  /** Looks where the CA will look. Throws with what it saw when the answer is not there. */
  check(challenge: P, signal: AbortSignal): Promise<void>;
}
