import type { Resources } from './resources.ts';
import type { Service } from './run.ts';

export interface RoundsOptions extends Pick<Resources, 'clock' | 'log'> {
  /** For the log: `the reconciler`. */
  what: string;
  /** Time between the end of a round and the next, ms. */
  everyMs: number;
}

/** Does `work` again and again until it is stopped; a round that fails is logged, and the next one comes all the same. */
export function startRounds(
  work: (signal: AbortSignal) => Promise<unknown>,
  { clock, log, what, everyMs }: RoundsOptions,
): Service {
  const stopping = new AbortController();
  const { signal } = stopping;
  async function rounds(): Promise<void> {
    while (!signal.aborted) {
      await work(signal).catch((error: unknown) => {
        if (!signal.aborted) log.warn({ err: error }, `a round of ${what} failed`);
      });
      await clock.sleep(everyMs, signal).catch(() => {});
    }
  }
  const running = rounds();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
