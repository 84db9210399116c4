import type { RetryPolicy } from './stages.ts';

/**
 * Delay in ms before the next attempt after `failures` (≥ 1) failed ones: exponential, capped, and jittered by ±20 % so that
 * orders that failed together do not come back together. `random` is in [0, 1).
 */
export function backoff(policy: RetryPolicy, failures: number, random: number): number {
  const delay = Math.min(policy.cap, policy.first * policy.factor ** (failures - 1));
  return Math.round(delay * (0.8 + 0.4 * random));
}
