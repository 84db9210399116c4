/** What was done to the system, for the report and the audit. */
export interface Tally {
  /** Every SIGKILL of a part, with when (ms since the epoch). */
  kills: { part: string; at: number }[];
  redisRestarts: number;
  /** By kind. */
  faults: Map<string, number>;
  /** Parts that ended without being told: `part: the end of its log`. */
  ends: string[];
  /** How long the API did not answer, each time, ms. */
  apiAwayMs: number[];
  fault(kind: string): void;
}

export function createTally(): Tally {
  const faults = new Map<string, number>();
  return {
    kills: [],
    redisRestarts: 0,
    faults,
    ends: [],
    apiAwayMs: [],
    fault: (kind) => void faults.set(kind, (faults.get(kind) ?? 0) + 1),
  };
}
