import type { Clock } from '#libs/clock';

/** A clock that a test holds: a sleep takes no time and moves it on. */
export interface FakeClock extends Clock {
  /** How long each sleep was, in ms. */
  readonly sleeps: readonly number[];
  advance(ms: number): void;
}

/** @param start ms since the epoch */
export function fakeClock(start = Date.UTC(2026, 0, 1)): FakeClock {
  let now = start;
  const sleeps: number[] = [];
  return {
    sleeps,
    now: () => now,
    advance(ms) {
      now += ms;
    },
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      sleeps.push(ms);
      now += ms;
    },
  };
}
