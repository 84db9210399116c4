import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { closeSync, createWriteStream, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { systemClock } from '#libs/clock';
import type { Program } from './programs.ts';

export interface StartOptions {
  readonly args: readonly string[];
  /** Where it runs and keeps its files; the only folder that a container gets to see, under the same name. */
  readonly dir: string;
  /** Everything that it prints is added to this file. */
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A program that lives no longer than this process. */
export interface RunningProgram {
  /** Undefined in Docker, where it has none of ours. */
  readonly pid: number | undefined;
  readonly running: boolean;
  /** Settles when it has ended, however that came. */
  readonly ended: Promise<void>;
  /** Sends a signal; with one that ends it, await `ended`. */
  signal(name: NodeJS.Signals): Promise<void>;
  /** Ends it with `name`, and after `graceMs` with SIGKILL, which also ends what is stopped or hangs. */
  stop(name: NodeJS.Signals, graceMs: number): Promise<void>;
}

/** Starts a program; it is not necessarily ready yet. */
export async function startProgram(program: Program, options: StartOptions): Promise<RunningProgram> {
  return program.kind === 'file' ? startFile(program.path, options) : startContainer(program, options);
}

let deathSignal: boolean | undefined;

/** Whether util-linux's setpriv can make the kernel kill a child when its parent dies. */
function hasDeathSignal(): boolean {
  deathSignal ??= spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true'], { stdio: 'ignore' }).status === 0;
  return deathSignal;
}

// Reads until the pipe from its parent closes, which a dying parent cannot help doing, then kills the process it was named.
const WATCHDOG =
  "process.stdin.resume().on('end', () => { try { process.kill(Number(process.argv[1]), 'SIGKILL'); } catch {} })";

/** The same where there is no setpriv: a small process that outlives us by the one call it is there for. */
function watch(child: ChildProcess): void {
  const watchdog = spawn(process.execPath, ['-e', WATCHDOG, String(child.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watchdog.on('error', () => undefined);
  watchdog.unref();
  child.once('exit', () => watchdog.kill('SIGKILL'));
}

function startFile(path: string, { args, dir, logFile, env }: StartOptions): Promise<RunningProgram> {
  const tied = hasDeathSignal();
  const [file, ...words] = tied ? ['setpriv', '--pdeathsig', 'KILL', '--', path, ...args] : [path, ...args];
  const log = openSync(logFile, 'a', 0o600);
  // In a process group of its own: Ctrl-C in a terminal reaches the whole group, and Redis must outlast the workers.
  const child = spawn(file ?? path, words, {
    cwd: dir,
    stdio: ['ignore', log, log],
    detached: true,
    env: { PATH: process.env.PATH, ...env },
  });
  closeSync(log);
  if (!tied && child.pid !== undefined) watch(child);

  let running = true;
  const ended = new Promise<void>((resolve) => {
    const end = (): void => {
      running = false;
      resolve();
    };
    child.once('exit', end);
    child.once('error', end);
  });
  const program: RunningProgram = {
    pid: child.pid,
    get running() {
      return running;
    },
    ended,
    signal: async (name) => {
      if (running) child.kill(name);
    },
    stop: (name, graceMs) => stopWithin(program, name, graceMs),
  };
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(program));
    child.once('error', reject);
  });
}

/**
 * In Docker the program shares this machine's network, so that everything else is as without: it listens on loopback
 * only, and a Pebble finds the answers to its challenges there. testcontainers removes it when this process dies.
 */
async function startContainer(
  { image, command }: Extract<Program, { kind: 'image' }>,
  { args, dir, logFile, env }: StartOptions,
): Promise<RunningProgram> {
  const { GenericContainer, Wait, getContainerRuntimeClient } = await import('testcontainers');
  const container = new GenericContainer(image)
    .withNetworkMode('host')
    .withBindMounts([{ source: dir, target: dir, mode: 'rw' }])
    .withWorkingDir(dir)
    .withEnvironment({ ...env })
    .withCommand([...command, ...args])
    .withAutoRemove(false)
    .withLogConsumer((stream) => stream.pipe(createWriteStream(logFile, { flags: 'a', mode: 0o600 })))
    .withWaitStrategy(Wait.forLogMessage(/./)); // any sign of life: readiness is the caller's to ask for
  if (process.getuid !== undefined && process.getgid !== undefined) {
    container.withUser(`${process.getuid()}:${process.getgid()}`); // else its files in `dir` would not be ours to delete
  }
  const started = await container.start();
  const { container: client } = await getContainerRuntimeClient();
  const handle = client.getById(started.getId());
  let running = true;
  const ended = handle.wait().then(
    () => {
      running = false;
    },
    () => {
      running = false;
    },
  );
  const program: RunningProgram = {
    pid: undefined,
    get running() {
      return running;
    },
    ended,
    signal: async (name) => {
      if (running) await handle.kill({ signal: name }).catch(unlessEnded);
    },
    stop: async (name, graceMs) => {
      await stopWithin(program, name, graceMs);
      await handle.remove({ force: true, v: true }).catch(() => undefined); // a container stays when its program has ended
    },
  };
  return program;
}

/** Docker answers 409 when the program ended before the signal came, of which we may not have heard yet. */
function unlessEnded(error: unknown): void {
  if (!(error instanceof Error && 'statusCode' in error && error.statusCode === 409)) throw error;
}

async function stopWithin(program: RunningProgram, name: NodeJS.Signals, graceMs: number): Promise<void> {
  if (!program.running) return;
  await program.signal(name);
  if (name !== 'SIGKILL') {
    const timer = new AbortController();
    await Promise.race([program.ended, systemClock.sleep(graceMs, timer.signal).catch(() => undefined)]);
    timer.abort();
    await program.signal('SIGKILL');
  }
  await program.ended;
}

/** Asks again and again until `ready` says yes; fails with the end of the log when the program ends or time is up. */
export async function untilReady(
  program: RunningProgram,
  what: string,
  logFile: string,
  timeoutMs: number,
  ready: () => Promise<boolean>,
): Promise<void> {
  const deadline = systemClock.now() + timeoutMs;
  while (!(await ready().catch(() => false))) {
    if (program.running && systemClock.now() < deadline) {
      await systemClock.sleep(20);
      continue;
    }
    const state = program.running ? `is not ready after ${timeoutMs} ms` : 'ended instead of starting';
    const log = (await readFile(logFile, 'utf8').catch(() => '')).trim().split('\n').slice(-6).join('\n');
    throw new StartError(`${what} ${state}; the end of ${logFile}:\n${log}`, /address already in use/i.test(log));
  }
}

/** Why a program did not start. */
export class StartError extends Error {
  override readonly name = 'StartError';
  /** Somebody else took its port between our choosing and its listening. */
  readonly portTaken: boolean;
  constructor(message: string, portTaken: boolean) {
    super(message);
    this.portTaken = portTaken;
  }
}

/** Calls `start`, which chooses free ports, again when one of them was taken meanwhile. */
export async function withFreePorts<T>(start: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await start();
    } catch (error) {
      if (tries === 5 || !(error instanceof StartError && error.portTaken)) throw error;
    }
  }
}

/** Below the ports that systems give to outgoing connections: one of these might have a port by the time a program listens there. */
const ports = { first: 10_000, count: 20_000 };

/** A port of 127.0.0.1 that was free a moment ago, for TCP and, as a DNS server needs both, for UDP. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = ports.first + randomInt(ports.count);
    const tcp = await new Promise<boolean>((resolve) => {
      const server = createServer().once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    const udp = await new Promise<boolean>((resolve) => {
      const socket = createSocket('udp4');
      socket.once('error', () => socket.close(() => resolve(false)));
      socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)));
    });
    if (tcp && udp) return port;
  }
}
