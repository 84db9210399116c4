/** What was done to the system, for the report and the audit. */
export interface Tally {
  /** Every SIGKILL of a part, with when (ms since the epoch). */
  kills: { part: string; at: number }[];
  redisRestarts: number;
  /** By kind. */
  faults: Map<string, number>;
  /** Answers of the API that have its clients ask again, by status and code. */
  refusals: Map<string, number>;
  /** Parts that ended without being told: `part: the end of its log`. */
  ends: string[];
  /** How long the API did not answer, each time, ms. */
  apiAwayMs: number[];
  fault(kind: string): void;
  refused(what: string): void;
}

export function createTally(): Tally {
  const faults = new Map<string, number>();
  const refusals = new Map<string, number>();
  const count = (counts: Map<string, number>, what: string) => void counts.set(what, (counts.get(what) ?? 0) + 1);
  return {
    kills: [],
    redisRestarts: 0,
    faults,
    refusals,
    ends: [],
    apiAwayMs: [],
    fault: (kind) => count(faults, kind),
    refused: (what) => count(refusals, what),
  };
}
