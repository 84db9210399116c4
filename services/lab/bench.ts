import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { measureCeiling } from './bench-ceiling.ts';
import { measureCertline } from './bench-certline.ts';
import { measureLego } from './bench-lego.ts';
import type { BenchSettings, Measurement } from './bench-load.ts';
import { miscounted, tableOf, targetsOf } from './bench-report.ts';

/** Every Pebble deadlocks under more than this, sooner or later. */
const most = { orders: 500, inFlight: 16 };
const contenders = ['ceiling', 'certline', 'lego'] as const;

const usage = `npm run bench -- [options]
  --orders N        orders to measure, for each contender (200; with the warm-up at most ${most.orders})
  --in-flight N     unfinished orders at any time (16; at most ${most.inFlight})
  --only NAME       ${contenders.join(', ')}; may be given several times
  --separate        certline as a process for each service, instead of all in one
  --cpu-prof DIR    have Node write CPU profiles of certline's processes there`;

const say = (line = ''): void => void process.stdout.write(`${line}\n`);

function readOptions() {
  const { values } = parseArgs({
    options: {
      orders: { type: 'string', default: '200' },
      'in-flight': { type: 'string', default: '16' },
      only: { type: 'string', multiple: true, default: [...contenders] },
      separate: { type: 'boolean', default: false },
      'cpu-prof': { type: 'string' },
    },
  });
  const [orders, inFlight] = [Number(values.orders), Number(values['in-flight'])];
  const unknown = values.only.find((name) => !contenders.some((known) => known === name));
  if (unknown !== undefined) throw new Error(`there is no contender ${unknown}`);
  if (!Number.isInteger(inFlight) || inFlight < 1 || inFlight > most.inFlight) throw new Error('--in-flight is wrong');
  // As many again warm everything up: connections, compiled code, nonces.
  const warmUp = inFlight;
  if (!Number.isInteger(orders) || orders < 1 || orders + warmUp > most.orders) throw new Error('--orders is wrong');
  const profileDir = values['cpu-prof'] === undefined ? null : resolve(values['cpu-prof']);
  return { orders, inFlight, warmUp, only: values.only, separate: values.separate, profileDir };
}

async function run(options: ReturnType<typeof readOptions>, dir: string): Promise<number> {
  const { orders, inFlight, warmUp, separate, profileDir } = options;
  say(`${orders} certificates each, ${inFlight} in flight, after ${warmUp} to warm up; a fresh Redis and Pebble each`);
  const settingsOf = (name: string): BenchSettings => ({ dir: join(dir, name), orders, inFlight, warmUp });
  const measure: Record<(typeof contenders)[number], () => Promise<Measurement | null>> = {
    ceiling: () => measureCeiling(settingsOf('ceiling')),
    certline: () => measureCertline({ ...settingsOf('certline'), separate, profileDir }),
    lego: () => measureLego(settingsOf('lego')),
  };
  const measurements: Measurement[] = [];
  for (const name of contenders) {
    if (!options.only.includes(name)) continue;
    await mkdir(join(dir, name));
    const measured = await measure[name]();
    if (measured) measurements.push(measured);
    else say(`${name} is not installed: left out`);
  }
  say();
  for (const line of tableOf(measurements)) say(line);
  say();
  for (const line of measurements.flatMap(({ notes }) => notes)) say(line);
  say();
  for (const line of targetsOf(measurements)) say(line);
  const wrong = miscounted(measurements);
  for (const line of wrong) say(`WRONG COUNT  ${line}`);
  if (wrong.length === 0) say('the CA counts as many certificates as there were orders');
  return wrong.length === 0 ? 0 : 1;
}

let options: ReturnType<typeof readOptions>;
try {
  options = readOptions();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
  process.exit(2);
}
const dir = await mkdtemp(join(tmpdir(), 'certline-bench-'));
let code = 1;
try {
  code = await run(options, dir);
} catch (error) {
  say(`\nThe benchmark failed: ${error instanceof Error ? error.message : String(error)}\nLogs are in ${dir}`);
  process.exit(1);
}
await rm(dir, { recursive: true, force: true });
process.exit(code);
