import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { type RunningProgram, startProgram } from '../../services/lab/running-program.ts';
import type { Tally } from './tally.ts';

/** A process under chaos: whatever ends it, it is started again at once, as a supervisor would. */
export interface Part {
  readonly name: string;
  /** Service or host: what it is one of. */
  readonly kind: string;
  kill(): Promise<void>;
  /** Stops it for a while, after which it goes on as if nothing had happened. */
  freeze(ms: number): Promise<void>;
  /** What it has logged. */
  log(): Promise<string>;
  close(): Promise<void>;
}

export interface PartOptions {
  name: string;
  kind: string;
  dir: string;
  /** Words for node. */
  args: readonly string[];
  /** Asked at every start. */
  env: () => Record<string, string>;
  tally: Tally;
}

/** What a part logs before it kills itself: see `edits.ts`. */
export const ownDeath = 'chaos: this process kills itself';
const restartMs = 300;

export async function startPart(options: PartOptions): Promise<Part> {
  const { name, kind, dir, tally } = options;
  const logFile = join(dir, `${name}.log`);
  let closing = false;
  let running: RunningProgram;
  let ownDeaths = 0;

  async function start(): Promise<void> {
    const program = { kind: 'file', path: process.execPath } as const;
    running = await startProgram(program, { args: options.args, dir, logFile, env: options.env() });
    void watch(running);
  }

  /** Tells why it ended, and starts it again. */
  async function watch(one: RunningProgram): Promise<void> {
    await one.ended;
    if (closing) return;
    const log = await readFile(logFile, 'utf8');
    const deaths = log.split(ownDeath).length - 1;
    if (deaths > ownDeaths) tally.kills.push({ part: name, at: systemClock.now() });
    else if (!killed.has(one)) tally.ends.push(`${name}: ${log.trim().split('\n').slice(-3).join(' ⏎ ')}`);
    ownDeaths = deaths;
    await delay(restartMs);
    if (!closing) await start();
  }
  const killed = new WeakSet<RunningProgram>();

  await start();
  return {
    name,
    kind,
    async kill() {
      const one = running;
      if (!one.running) return;
      killed.add(one);
      tally.kills.push({ part: name, at: systemClock.now() });
      await one.stop('SIGKILL', 0);
    },
    async freeze(ms) {
      const one = running;
      await one.signal('SIGSTOP');
      await delay(ms);
      await one.signal('SIGCONT');
    },
    log: () => readFile(logFile, 'utf8'),
    async close() {
      closing = true;
      await running.stop('SIGKILL', 0);
    },
  };
}
