import type { ScaleMeasurement, ScaleRow } from './bench-scale.ts';

/** How often the largest size has what the smallest has. */
const growthOf = ({ values }: ScaleRow): number => (values.at(-1) ?? Number.NaN) / (values[0] ?? Number.NaN);

function cellOf(value: number, unit: ScaleRow['unit']): string {
  return unit === 'bytes' ? `${value.toFixed(0)} B` : `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ms`;
}

/** The values at each size, and the growth from the smallest to the largest. */
function tableOf({ sizes, rows }: ScaleMeasurement): string[] {
  const head = ['certificates', ...sizes.map(String), 'growth'];
  const lines = rows.map((row) => {
    const cells = row.values.map((value) => cellOf(value, row.unit));
    return [row.name, ...cells, growthOf(row).toFixed(2)];
  });
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column]?.length ?? 0)));
  return [head, ...lines].map((line) =>
    line.map((cell, at) => (at === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[at] ?? 0))).join('  '),
  );
}

/** What is meant to be reached, and whether it is. */
function targetsOf({ rows }: ScaleMeasurement): string[] {
  const word = (reached: boolean): string => (reached ? 'reached' : 'missed ');
  return rows.flatMap((row) => {
    const { name, limit, most, values } = row;
    if (most !== undefined) {
      const worst = Math.max(...values);
      return [`${word(worst <= most)}  ${name}: ${cellOf(worst, row.unit)} (target <= ${most})`];
    }
    const growth = growthOf(row);
    if (limit === undefined) return [];
    return [`${word(growth <= limit)}  ${name}: ${growth.toFixed(2)} times (target <= ${limit})`];
  });
}

/** The table of what was measured, what each kind of key takes, and what is to be reached. */
export function scaleReport(measured: ScaleMeasurement): string[] {
  const size = measured.sizes[0] ?? 1;
  const kinds = [...measured.kinds].toSorted(([, one], [, other]) => other - one).slice(0, 12);
  return [
    ...tableOf(measured),
    '',
    `Redis by kind of key, bytes for each of ${size} certificates and its 2 orders:`,
    ...kinds.map(([kind, bytes]) => `  ${kind.padEnd(20)} ${(bytes / size).toFixed(0).padStart(6)}`),
    '',
    ...targetsOf(measured),
  ];
}
