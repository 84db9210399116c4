import { type Measurement, percentile } from './bench-load.ts';

const columns = ['contender', 'orders/min', 'p50 ms', 'p95 ms', 'CPU ms/cert', 'CA requests/cert', 'Redis bytes/order'];

/** Throughput of a run. */
export const perMinute = ({ orders, seconds }: Measurement): number => (orders * 60) / seconds;

function rowOf(measurement: Measurement): string[] {
  const { contender, orders, latencies, cpuSeconds, caRequests, redis } = measurement;
  return [
    contender,
    perMinute(measurement).toFixed(0),
    percentile(latencies, 0.5).toFixed(0),
    percentile(latencies, 0.95).toFixed(0),
    cpuSeconds === null ? 'n/a' : ((cpuSeconds * 1_000) / orders).toFixed(1),
    caRequests === null ? 'n/a' : (caRequests / orders).toFixed(2),
    redis ? `${(redis.bytes / orders).toFixed(0)} (${(redis.keys / orders).toFixed(1)} keys)` : '-',
  ];
}

/** The table, one line each. */
export function tableOf(measurements: readonly Measurement[]): string[] {
  const rows = [columns, ...measurements.map(rowOf)];
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) =>
    row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join('  '),
  );
}

/** The one in the middle, by throughput: other work on the machine makes single runs worse, now and then by half. */
export function middleOf(runs: readonly Measurement[]): Measurement | undefined {
  return runs.toSorted((a, b) => perMinute(a) - perMinute(b))[Math.floor((runs.length - 1) / 2)];
}

/** How much more of one was done than of the other: round by round, since a machine has slow minutes; the one in the middle of that. */
function ratioOf(runs: readonly Measurement[], contender: string, other: string): number | undefined {
  const others = runs.filter((run) => run.contender === other);
  const ratios = runs
    .filter((run) => run.contender === contender)
    .flatMap((run, round) => {
      // lego has one run for all rounds.
      const beside = others[round] ?? others.at(-1);
      return beside ? [perMinute(run) / perMinute(beside)] : [];
    });
  return ratios.toSorted((a, b) => a - b)[Math.floor((ratios.length - 1) / 2)];
}

/** What certline is meant to reach, and whether it did; a target whose contender did not run is left out. */
export function targetsOf(measurements: readonly Measurement[], runs: readonly Measurement[]): string[] {
  const lines: string[] = [];
  const target = (what: string, value: number, relation: '>=' | '<=', limit: number, digits = 2): void => {
    const reached = relation === '>=' ? value >= limit : value <= limit;
    lines.push(`${reached ? 'reached' : 'missed '}  ${what} ${value.toFixed(digits)} (target ${relation} ${limit})`);
  };
  for (const certline of measurements.filter(({ redis }) => redis)) {
    const { contender, caRequests, orders, redis } = certline;
    for (const [name, limit] of Object.entries({ ceiling: 0.6, lego: 6 })) {
      const ratio = ratioOf(runs, contender, name);
      if (ratio !== undefined) target(`${contender}/${name}, orders per minute`, ratio, '>=', limit);
    }
    if (caRequests !== null) target(`${contender}: requests to the CA per certificate`, caRequests / orders, '<=', 9);
    if (redis) target(`${contender}: Redis bytes per finished order`, redis.bytes / orders, '<=', 12 * 1_024, 0);
  }
  return lines;
}

/** Contenders whose certificates, by the CA's own count, are not one for each order. */
export function miscounted(measurements: readonly Measurement[]): string[] {
  return measurements
    .filter(({ issued, orders, warmUp }) => issued !== orders + warmUp)
    .map(
      ({ contender, issued, orders, warmUp }) => `${contender}: ${issued} certificates for ${orders + warmUp} orders`,
    );
}
