import type { Pace } from './stages.ts';

/** The part of a wait that somebody else named which may be added to it, and the most of that, ms. */
const lateness = { part: 0.1, most: 60_000 };

/**
 * Delay in ms before the next attempt after `failures` (≥ 1) failed ones: that of the pace, jittered by ±20 % so that orders that failed together do
 * not come back together. `random` is in [0, 1).
 */
export function backoff(pace: Pace, failures: number, random: number): number {
  const delay = pace[Math.min(failures, pace.length) - 1] ?? 0;
  return Math.round(delay * (0.8 + 0.4 * random));
}

/**
 * When to come back if somebody else has said `until` (ms since the epoch; a Retry-After, say): never before it, and up to a tenth of the wait but at
 * most a minute after it, for others were told the same time.
 */
export function shortlyAfter(until: number, now: number, random: number): number {
  return until + Math.min(lateness.most, Math.max(0, until - now) * lateness.part) * random;
}
