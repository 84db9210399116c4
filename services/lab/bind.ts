import { randomBytes } from 'node:crypto';
import { glob, mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '#libs/clock';
import { type BindOptions, bindConfiguration, rndcConfiguration, rootHints, zoneFile } from './bind-configuration.ts';
import { run } from './debian-packages.ts';
import { type DebianProgram, provideFromDebian } from './debian-programs.ts';
import { type DnsRelay, startDnsRelay } from './dns-relay.ts';
import { freePort, type RunningProgram, StartError, startProgram, untilReady } from './running-program.ts';

export type { BindOptions, BindZone, TsigKey } from './bind-configuration.ts';

const READY_MS = 15_000;
const STOP_MS = 10_000;
const KEYS_MS = 10_000;
const POLL_MS = 20;

/** A BIND 9 that ends when this process ends. */
export interface Bind {
  readonly address: string;
  readonly port: number;
  /** `127.0.0.2:5353`, as DNS_RESOLVERS has it. */
  readonly server: string;
  readonly pid: number | undefined;
  /** Everything it has logged. */
  log(): Promise<string>;
  /** A command of rndc, as `retransfer example.test`; gives what it prints. */
  control(...words: string[]): Promise<string>;
  /** Puts another text in place of a zone that is not updated dynamically; the serial is the caller's to raise. */
  writeZone(name: string, text: string): Promise<void>;
  /** The DS records of a signed zone for its parent: `example.test. IN DS …`, a line each. */
  delegationSigner(name: string): Promise<string>;
  /** To hold it (SIGSTOP), in which it is when this returns, and let it go on (SIGCONT). */
  signal(name: NodeJS.Signals): Promise<void>;
  /** Takes it down, its zones and journals written; `start` brings it back at the same port with the same zones. */
  stop(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** BIND of this machine, or of Debian's package, unpacked. */
export async function provideBind(): Promise<DebianProgram> {
  return provideFromDebian('named', ['bind9', 'bind9-utils']);
}

/** Whether every thread of a process is stopped: one that was busy goes on for a moment after the signal. */
async function isHeld(pid: number | undefined): Promise<boolean> {
  for await (const file of glob(`/proc/${pid}/task/*/stat`)) {
    const [, state] = /\) (\S)/.exec(await readFile(file, 'utf8')) ?? [];
    if (state !== 'T') return false;
  }
  return true;
}

/** Starts a BIND on a loopback address and waits until it has loaded its zones. */
export async function startBind(options: BindOptions): Promise<Bind> {
  const program = await provideBind();
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const [port, controlPort] = [options.port ?? (await freePort()), await freePort()];
  const { address, zones = [] } = options;
  const own = Object.values(networkInterfaces()).some((all) => all?.some((one) => one.address === address));
  const listen = own ? { address, port } : { address: '127.0.0.1', port: await freePort() };
  const controlKey = randomBytes(32).toString('base64');
  const configuration = join(dir, 'named.conf');
  await mkdir(join(dir, 'keys'), { recursive: true });
  for (const zone of zones) if (zone.text !== undefined) await writeFile(join(dir, zoneFile(zone.name)), zone.text);
  if (options.recursion) await writeFile(join(dir, 'roots.hint'), rootHints(options.recursion.roots));
  await writeFile(configuration, bindConfiguration({ ...options, dir, port, listen, controlPort, controlKey }), {
    mode: 0o600,
  });
  await writeFile(join(dir, 'rndc.conf'), rndcConfiguration(address, controlPort, controlKey), { mode: 0o600 });

  const logFile = join(dir, 'named.log');
  const [rndc, toDs] = [await program.beside('rndc'), await program.beside('dnssec-dsfromkey')];
  const log = (): Promise<string> => readFile(logFile, 'utf8').catch(() => '');
  const tool = (path: string, args: readonly string[]): Promise<string> => {
    const env = Object.entries(program.env).map(([name, value]) => `${name}=${value}`);
    return run('env', [...env, path, ...args], dir);
  };
  const control = (...words: string[]): Promise<string> => tool(rndc, ['-c', join(dir, 'rndc.conf'), ...words]);

  const launch = async (): Promise<RunningProgram> => {
    await writeFile(logFile, '');
    const args = ['-g', '-n', '1', '-c', configuration];
    const running = await startProgram({ kind: 'file', path: program.path }, { args, dir, logFile, env: program.env });
    try {
      await untilReady(running, 'named', logFile, READY_MS, async () => {
        const lines = await log();
        return / all zones loaded/.test(lines) && / running$/m.test(lines) && / listening on /.test(lines);
      });
    } catch (error) {
      await running.stop('SIGKILL', 0);
      throw /address in use/.test(await log()) ? new StartError(`named: ${address}:${port} is taken`, true) : error;
    }
    return running;
  };

  let running = await launch();
  let relay: DnsRelay | null = null;
  const stop = async (): Promise<void> => {
    await relay?.close();
    relay = null;
    // A stopped one does not hear SIGTERM.
    await running.signal('SIGCONT');
    await running.stop('SIGTERM', STOP_MS);
  };
  const open = async (): Promise<void> => {
    if (own) return;
    relay = await startDnsRelay({ address, port }, listen).catch(async (error: unknown) => {
      await running.stop('SIGKILL', 0);
      throw error;
    });
  };
  await open();
  return {
    address,
    port,
    server: isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`,
    get pid() {
      return running.pid;
    },
    log,
    control,
    async writeZone(name, text) {
      await writeFile(join(dir, zoneFile(name)), text);
      await control('reload', name);
    },
    async delegationSigner(name) {
      const base = `K${name === '.' ? '' : name}.+`;
      const deadline = systemClock.now() + KEYS_MS;
      for (;;) {
        for await (const file of glob(`${base}*.key`, { cwd: join(dir, 'keys') })) {
          // Written in one step by named.
          return await tool(toDs, ['-2', join(dir, 'keys', file)]);
        }
        if (systemClock.now() > deadline) throw new Error(`named has made no key for ${name}: ${await log()}`);
        await systemClock.sleep(POLL_MS);
      }
    },
    signal: async (name) => {
      await running.signal(name);
      while (name === 'SIGSTOP' && !(await isHeld(running.pid))) await systemClock.sleep(1);
    },
    stop,
    start: async () => {
      await stop();
      running = await launch();
      await open();
    },
    close: stop,
  };
}
