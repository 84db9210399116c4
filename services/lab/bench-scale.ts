import { join } from 'node:path';
import { systemClock } from '#libs/clock';
import { percentile } from './bench-load.ts';
import { type Installation, openInstallation, type RunningService, serviceNames } from './bench-scale-installation.ts';
import { apiLooks, dueLooks, idleLooks, type Look, timesOf, writingLooks } from './bench-scale-looks.ts';
import { bytesByKind } from './bench-scale-memory.ts';

/** One line of the table. */
export interface ScaleRow {
  readonly name: string;
  readonly unit: 'ms' | 'bytes';
  /** A value for each size. */
  readonly values: readonly number[];
  /** How many times more the largest size may have than the smallest. */
  readonly limit?: number | undefined;
  /** The most that each value may be. */
  readonly most?: number;
}

export interface ScaleMeasurement {
  readonly sizes: readonly number[];
  readonly rows: readonly ScaleRow[];
  /** Bytes of Redis for each certificate by kind of key, in the smallest estate. */
  readonly kinds: ReadonlyMap<string, number>;
}

const starts = 3;
const mostBytes = 10 * 1_024;
const progressMs = 30_000;
const day = 86_400_000;

/**
 * The same look at each installation, in turns: a machine has slow minutes, and one size is not to be compared in a good one with another in a
 * bad one.
 */
async function measure(looks: readonly Look[][]): Promise<ScaleRow[]> {
  const rows: ScaleRow[] = [];
  for (const [at, { name, limit }] of (looks[0] ?? []).entries()) {
    const same = looks.flatMap((ofOne) => ofOne[at] ?? []);
    rows.push({ name, unit: 'ms', values: await timesOf(same), limit });
  }
  return rows;
}

/** What running services of a kind are asked, one for each installation. */
async function measureServices(
  installations: readonly Installation[],
  name: (typeof serviceNames)[number],
  looks: (service: RunningService, installation: Installation) => Look[],
): Promise<ScaleRow[]> {
  const running: RunningService[] = [];
  try {
    for (const one of installations) running.push(await one.startService(name));
    return await measure(running.map((service, at) => looks(service, installations[at] as Installation)));
  } finally {
    await Promise.all(running.map((service) => service.stop()));
  }
}

async function startTimes(
  installations: readonly Installation[],
  name: (typeof serviceNames)[number],
): Promise<ScaleRow> {
  const times = installations.map((): number[] => []);
  for (let count = 0; count < starts; count += 1) {
    for (const [at, one] of installations.entries()) {
      const service = await one.startService(name);
      times[at]?.push(service.startedMs);
      await service.stop();
    }
  }
  return { name: `start of ${name}`, unit: 'ms', values: times.map((ofOne) => percentile(ofOne, 0.5)) };
}

function memoryOf(installations: readonly Installation[]): ScaleRow[] {
  const certificate = installations.map(({ bytes }) => bytes.certificate);
  return [
    { name: 'Redis of a certificate with its order', unit: 'bytes', values: certificate, most: mostBytes },
    { name: 'Redis of a further order', unit: 'bytes', values: installations.map(({ bytes }) => bytes.order) },
  ];
}

async function measureAll(installations: readonly Installation[]): Promise<ScaleRow[]> {
  const rows = memoryOf(installations);
  rows.push(...(await measure(installations.map(({ resources }) => idleLooks(resources)))));
  rows.push(...(await measure(installations.map(({ resources, estate }) => dueLooks(resources, estate)))));
  // What was made due is put off again, lest the scheduler has it to look at.
  for (const { resources, estate } of installations)
    for (const id of estate.open) await resources.store.orders.lookAgain(id, systemClock.now() + day);
  const api = ({ url }: RunningService, { apiKey, estate }: Installation): Look[] => apiLooks(url, apiKey, estate);
  rows.push(...(await measureServices(installations, 'api', api)));
  const scheduler = ({ url }: RunningService): Look[] => [
    { name: 'GET /metrics of the scheduler', limit: 2, run: async () => (await fetch(`${url}/metrics`)).text() },
  ];
  rows.push(...(await measureServices(installations, 'scheduler', scheduler)));
  for (const name of serviceNames) rows.push(await startTimes(installations, name));
  rows.push(...(await measure(installations.map(({ estate }) => writingLooks(estate)))));
  const restarts: number[] = [];
  for (const one of installations) restarts.push(await one.restartRedis());
  return [...rows, { name: 'restart of Redis', unit: 'ms', values: restarts }];
}

/** Installations of some sizes side by side, each in a Redis of its own: what each takes, and how long things take there. */
export async function measureScale(
  { dir, sizes }: { readonly dir: string; readonly sizes: readonly number[] },
  say: (line: string) => void,
): Promise<ScaleMeasurement> {
  const installations: Installation[] = [];
  let told = performance.now();
  const onProgress = (what: string, done: number, all: number): void => {
    if (performance.now() - told < progressMs) return;
    told = performance.now();
    say(`  ${done} of ${all} ${what}`);
  };
  try {
    for (const size of sizes) {
      installations.push(await openInstallation(join(dir, String(size)), size, onProgress));
      say(`  ${size} certificates and ${2 * size} orders are there`);
    }
    const [smallest] = installations;
    const kinds = smallest
      ? await bytesByKind(smallest.resources.redis, smallest.resources.store.keys.tag)
      : new Map<string, number>();
    return { sizes, rows: await measureAll(installations), kinds };
  } finally {
    await Promise.all(installations.map((one) => one.close()));
  }
}
