import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { measureCeiling } from './bench-ceiling.ts';
import { measureCertline } from './bench-certline.ts';
import { deployReport, measureDeployments } from './bench-deploy.ts';
import { measureLego } from './bench-lego.ts';
import { type BenchSettings, type Measurement, Standstill } from './bench-load.ts';
import { middleOf, miscounted, perMinute, tableOf, targetsOf } from './bench-report.ts';
import { measureScale } from './bench-scale.ts';
import { scaleReport } from './bench-scale-report.ts';

/** Under more than this Pebbles deadlock too often; under less they do now and then, and the run is repeated. */
const most = { orders: 500, inFlight: 16, tries: 4, certificates: 1_000, hosts: 200, pauseMs: 10_000 };
const contenders = ['ceiling', 'certline', 'services', 'lego'] as const;
const benchmarks = ['issue', 'deploy', 'scale'] as const;
type Contender = (typeof contenders)[number];

const usage = `npm run bench -- [options]
  --orders N        orders to measure in a run (200; with the warm-up at most ${most.orders})
  --warm-up N       orders before the clock runs (200): services run for months, so their code is compiled and their
                    connections are open; lego starts anew for each order and gets one, which registers its account
  --in-flight N     unfinished orders at any time (16; at most ${most.inFlight})
  --rounds N        runs of each contender but lego, in turns; the one in the middle is shown (3)
  --only NAME       ${contenders.join(', ')}; may be given several times (all but services)
  --cpu-prof DIR    have Node write CPU profiles of certline's processes there

npm run bench -- deploy [options]
  certificates that are there already, to simulated IIS hosts: all on one host, one by one, and spread over many hosts
  --certificates N  200
  --hosts N         hosts of the last (50)
  --pause MS        how much longer every call to a host takes (100): a real one starts a PowerShell for each, which takes
                    0.6 to 1.1 s even where the tests run its engine
  --cpu-prof DIR    as above, of the deployment worker

npm run bench -- scale [options]
  what certificates and orders that are there already cost: memory of Redis, pages, rounds of the scheduler, starts
  --sizes N,N,...   certificates, twice as many orders (1000,10000,100000: a quarter of an hour, 2 GB)`;

const say = (line = ''): void => void process.stdout.write(`${line}\n`);

function readOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      certificates: { type: 'string', default: '200' },
      hosts: { type: 'string', default: '50' },
      pause: { type: 'string', default: '100' },
      orders: { type: 'string', default: '200' },
      'warm-up': { type: 'string', default: '200' },
      'in-flight': { type: 'string', default: '16' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string', multiple: true, default: contenders.filter((name) => name !== 'services') },
      'cpu-prof': { type: 'string' },
      sizes: { type: 'string', default: '1000,10000,100000' },
    },
  });
  const number = (
    name: 'orders' | 'warm-up' | 'in-flight' | 'rounds' | 'certificates' | 'hosts' | 'pause',
    limit: number,
    least = 1,
  ): number => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least || value > limit)
      throw new Error(`--${name} is ${least} to ${limit}`);
    return value;
  };
  const unknown = values.only.find((name) => !contenders.some((known) => known === name));
  if (unknown !== undefined) throw new Error(`there is no contender ${unknown}`);
  const [name = 'issue', ...more] = positionals;
  const what = benchmarks.find((known) => known === name);
  if (what === undefined || more.length > 0) throw new Error(`there is no benchmark ${positionals.join(' ')}`);
  const sizes = values.sizes.split(',').map(Number);
  if (sizes.some((size, at) => !Number.isInteger(size) || size < Math.max(100, sizes[at - 1] ?? 0)))
    throw new Error('--sizes are whole numbers from 100 on, the smallest first');
  const warmUp = number('warm-up', most.orders - 1);
  return {
    what,
    certificates: number('certificates', most.certificates),
    hosts: number('hosts', most.hosts),
    pauseMs: number('pause', most.pauseMs, 0),
    sizes,
    warmUp,
    inFlight: number('in-flight', most.inFlight),
    orders: number('orders', most.orders - warmUp),
    rounds: number('rounds', 20),
    only: contenders.filter((name) => values.only.includes(name)),
    profileDir: values['cpu-prof'] === undefined ? null : resolve(values['cpu-prof']),
  };
}

/** Repeats a run whose Pebble came to a standstill. */
async function unlessStuck<T>(name: Contender, attempt: (number: number) => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await attempt(tries);
    } catch (error) {
      if (!(error instanceof Standstill) || tries === most.tries) throw error;
      say(`  ${name}: ${error.message}: Pebble hangs, the run is repeated with a fresh one`);
    }
  }
}

async function run(options: ReturnType<typeof readOptions>, dir: string): Promise<number> {
  const { orders, inFlight, warmUp, rounds, only, profileDir } = options;
  say(`${orders} certificates a run, ${inFlight} in flight, after ${warmUp} to warm up; a fresh Redis and Pebble each`);
  const measure: Record<Contender, (settings: BenchSettings) => Promise<Measurement | null>> = {
    ceiling: measureCeiling,
    certline: (settings) => measureCertline({ ...settings, separate: false, profileDir }),
    services: (settings) => measureCertline({ ...settings, separate: true, profileDir }),
    lego: (settings) => measureLego({ ...settings, warmUp: 1 }),
  };
  const runs: Measurement[] = [];
  for (let round = 1; round <= rounds; round += 1) {
    for (const name of only) {
      // lego mostly waits: one run tells.
      if (name === 'lego' && round > 1) continue;
      const measured = await unlessStuck(name, async (attempt) => {
        const settings = { dir: join(dir, `${name}-${round}-${attempt}`), orders, inFlight, warmUp };
        await mkdir(settings.dir);
        return measure[name](settings);
      });
      if (measured === null) say(`${name} is not installed: left out`);
      else {
        runs.push(measured);
        say(`  round ${round}: ${name} ${perMinute(measured).toFixed(0)} orders/min`);
      }
    }
  }
  const middles = only.flatMap((name) => middleOf(runs.filter(({ contender }) => contender === name)) ?? []);
  for (const line of ['', ...tableOf(middles), '', ...middles.flatMap(({ notes }) => notes), '']) say(line);
  for (const line of targetsOf(middles, runs)) say(line);
  const wrong = miscounted(runs);
  for (const line of wrong) say(`WRONG COUNT  ${line}`);
  if (wrong.length === 0) say('in every run the CA counts as many certificates as there were orders');
  return wrong.length === 0 ? 0 : 1;
}

async function runDeployments(options: ReturnType<typeof readOptions>, dir: string): Promise<number> {
  const { certificates, hosts, pauseMs, profileDir } = options;
  say(
    `${certificates} certificates of a CA made for it, a deployment worker of its own process, simulated IIS hosts, ${pauseMs} ms of pause in each call`,
  );
  const measured = await measureDeployments(
    { dir: join(dir, 'deploy'), certificates, hosts, pauseMs, profileDir },
    say,
  );
  for (const line of ['', ...deployReport(measured)]) say(line);
  const wrong = measured.filter((one) => one.right !== one.certificates);
  for (const { scenario, right } of wrong)
    say(`WRONG COUNT  ${scenario}: ${right} of ${certificates} bindings are right`);
  if (wrong.length === 0) say('in every round each binding has its certificate, by what the hosts say');
  return wrong.length === 0 ? 0 : 1;
}

async function runScale({ sizes }: ReturnType<typeof readOptions>, dir: string): Promise<number> {
  say(
    'installations side by side, each in a Redis of its own; their records are written by the calls that the services make',
  );
  const measured = await measureScale({ dir: join(dir, 'scale'), sizes }, say);
  for (const line of ['', ...scaleReport(measured)]) say(line);
  return 0;
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
  code = await { issue: run, deploy: runDeployments, scale: runScale }[options.what](options, dir);
} catch (error) {
  say(`\nThe benchmark failed: ${error instanceof Error ? error.message : String(error)}\nLogs are in ${dir}`);
  process.exit(1);
}
await rm(dir, { recursive: true, force: true });
process.exit(code);
