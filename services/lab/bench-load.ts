/** What a contender did and what it took. Null: cannot be told here. */
export interface Measurement {
  readonly contender: string;
  /** Orders that were measured, warm-up left out. */
  readonly orders: number;
  /** Orders that were made before the clock ran. */
  readonly warmUp: number;
  /** Certificates that the CA itself counts, warm-up included. */
  readonly issued: number;
  readonly seconds: number;
  /** Milliseconds of every order, as its client saw them. */
  readonly latencies: readonly number[];
  /** User and system time of the contender's own processes. */
  readonly cpuSeconds: number | null;
  /** Requests to the CA. */
  readonly caRequests: number | null;
  /** Lines for people, below the table. */
  readonly notes: readonly string[];
  readonly redis?: { readonly bytes: number; readonly keys: number };
}

export interface BenchSettings {
  /** A folder for this contender alone. */
  readonly dir: string;
  readonly orders: number;
  readonly inFlight: number;
  readonly warmUp: number;
}

export interface Load {
  readonly seconds: number;
  readonly latencies: number[];
}

/** What every Pebble of the benchmark is told: no pauses, no refusals by chance, every authorization proved anew. */
export const pebbleEnv = { PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '0', PEBBLE_AUTHZREUSE: '0' };

/** Host names that are alike for every contender. */
export function namesOf(kind: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${kind}-${index + 1}.bench.example.com`);
}

/** Nothing was finished for a long time: most likely the Pebble has deadlocked, as each does sooner or later under load. */
export class Standstill extends Error {
  override readonly name = 'Standstill';
}

const standstillMs = 10_000;

/**
 * Does `work` for every name, with `inFlight` of them under way at any time. Ends with the first that fails, or with a
 * `Standstill`; what is under way then fails when its Pebble is closed.
 */
export async function runLoad(
  names: readonly string[],
  inFlight: number,
  work: (name: string) => Promise<void>,
): Promise<Load> {
  const waiting = names.values();
  const latencies: number[] = [];
  const start = performance.now();
  // All clients take from one iterator: whoever is free takes the next name.
  const client = async (): Promise<void> => {
    for (const name of waiting) {
      const begun = performance.now();
      await work(name);
      latencies.push(performance.now() - begun);
    }
  };
  let watch: NodeJS.Timeout | undefined;
  const standstill = new Promise<never>((_resolve, reject) => {
    let seen = -1;
    watch = setInterval(() => {
      if (latencies.length === seen) reject(new Standstill(`nothing was finished in ${standstillMs / 1_000} s`));
      seen = latencies.length;
    }, standstillMs);
  });
  await Promise.race([Promise.all(Array.from({ length: inFlight }, client)), standstill]).finally(() =>
    clearInterval(watch),
  );
  return { seconds: (performance.now() - start) / 1000, latencies };
}

/** The value that `share` of all values do not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
