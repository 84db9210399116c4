import { mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '#libs/clock';
import { provideRedisServer } from './programs.ts';
import { freePort, type RunningProgram, startProgram, untilReady, withFreePorts } from './running-program.ts';

const READY_MS = 60_000; // it answers only when it has read its data back, which may be a lot
const STOP_MS = 10_000;
const ANSWER_MS = 1_000;
const UNSURE_MS = 3_000;
const LOOK_AGAIN_MS = 100;

export interface RedisOptions {
  /** Where its data, configuration and log are kept; made when it is not there. */
  readonly dir: string;
  /** A free one when left out. */
  readonly port?: number;
  readonly password?: string;
  /** `always` unless told otherwise: with anything else a crash takes acknowledged orders with it. */
  readonly appendfsync?: 'always' | 'everysec';
  /** Further lines of its configuration. */
  readonly settings?: readonly string[];
}

/** A Redis server of our own, on loopback, that ends when this process ends. */
export interface Redis {
  readonly url: string;
  readonly port: number;
  /** Undefined in Docker; another one after `restart`. */
  readonly pid: number | undefined;
  /** Sends a signal (SIGKILL unless told otherwise), and waits for the end when the signal ends it. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it on the same port with the same data, after stopping it when it still runs. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

interface Place {
  readonly dir: string;
  readonly port: number;
  readonly password: string;
}

/** Starts a Redis that keeps what it acknowledged, and waits until it answers. */
export async function startRedis(options: RedisOptions): Promise<Redis> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const password = options.password ?? '';
  if (/[\s"'\\]/.test(password)) throw new Error('a Redis password may hold no spaces, quotes or backslashes');
  await refuseSecondServer(dir);

  const program = await provideRedisServer();
  const logFile = join(dir, 'redis.log');
  const launch = async (port: number): Promise<RunningProgram> => {
    const place: Place = { dir, port, password };
    const file = join(dir, 'redis.conf');
    // A file and not arguments: every user of the machine may read a process's arguments.
    await writeFile(file, settings(place, options), { mode: 0o600 });
    const running = await startProgram(program, { args: [file], dir, logFile });
    try {
      await untilReady(running, 'redis-server', logFile, READY_MS, async () => (await lookAt(place)).state === 'ours');
    } catch (error) {
      await running.stop('SIGKILL', 0);
      throw error;
    }
    return running;
  };

  let port = options.port ?? 0;
  let running =
    options.port === undefined
      ? await withFreePorts(async () => {
          port = await freePort();
          return launch(port);
        })
      : await launch(port);

  return {
    url: urlOf({ port, password }),
    port,
    get pid() {
      return running.pid;
    },
    kill: async (signal = 'SIGKILL') => {
      await running.signal(signal);
      if (signal === 'SIGKILL' || signal === 'SIGTERM' || signal === 'SIGINT') await running.ended;
    },
    restart: async () => {
      await running.stop('SIGTERM', STOP_MS);
      running = await launch(port);
    },
    close: () => running.stop('SIGTERM', STOP_MS),
  };
}

function settings(
  { dir, port, password }: Place,
  { appendfsync = 'always', settings: more = [] }: RedisOptions,
): string {
  const lines = [
    'bind 127.0.0.1',
    `port ${port}`,
    ...(password === '' ? [] : [`requirepass ${password}`]),
    `dir "${dir}"`,
    'appendonly yes',
    `appendfsync ${appendfsync}`,
    'no-appendfsync-on-rewrite no',
    'aof-load-truncated yes', // a half-written last command was never acknowledged
    'maxmemory-policy noeviction',
    'save ""', // the append-only file has everything already
    'daemonize no',
    'logfile ""',
    ...more,
  ];
  return `${lines.join('\n')}\n`;
}

const urlOf = ({ port, password }: Pick<Place, 'port' | 'password'>): string =>
  `redis://${password === '' ? '' : `:${encodeURIComponent(password)}@`}127.0.0.1:${port}`;

/**
 * URL of the server that uses the data in a folder now; null when it is certain that there is none. Its configuration there tells, to its user
 * alone. Throws an Error when it cannot be told after some seconds: the one that runs may be busy, or still read its data back.
 */
export async function runningRedis(folder: string): Promise<string | null> {
  const dir = await realpath(folder).catch(() => folder);
  const file = join(dir, 'redis.conf');
  const old = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const port = Number(/^port (\d+)$/m.exec(old)?.[1] ?? 0);
  const password = /^requirepass (.*)$/m.exec(old)?.[1] ?? '';
  if (port === 0) return null;
  const deadline = systemClock.now() + UNSURE_MS;
  for (;;) {
    const look = await lookAt({ dir, port, password });
    if (look.state === 'ours') return urlOf({ port, password });
    if (look.state === 'none') return null;
    if (systemClock.now() >= deadline)
      throw new Error(
        `the Redis on port ${port} may use the data in ${dir}, but ${look.why}: try again when it answers; if that is another program, delete ${file}`,
      );
    await systemClock.sleep(LOOK_AGAIN_MS);
  }
}

/** Two servers on the same data destroy it: `npm start` typed twice must not. */
async function refuseSecondServer(dir: string): Promise<void> {
  const url = await runningRedis(dir);
  if (url === null) return;
  throw new Error(`another Redis, on port ${new URL(url).port}, is already using the data in ${dir}; stop it first`);
}

type Look = { state: 'ours' } | { state: 'none' } | { state: 'unsure'; why: string };

/**
 * Whether the server at this port is ready and keeps its data in this folder. A PING alone would also be answered by
 * somebody else's Redis on the port. Only where nobody listens, or a Redis names another folder, is it certain that it does not run.
 */
async function lookAt({ dir, port, password }: Place): Promise<Look> {
  const login = password === '' ? '' : `AUTH ${password}\r\n`;
  try {
    const reply = await ask(port, `${login}PING\r\nCONFIG GET dir\r\nQUIT\r\n`);
    const isReady = reply.includes('+PONG\r\n');
    if (isReady && reply.includes(`\r\n${dir}\r\n`)) return { state: 'ours' };
    if (isReady && reply.includes('\r\ndir\r\n')) return { state: 'none' };
    const [error = ''] = /^-.*/m.exec(reply) ?? [];
    return { state: 'unsure', why: error === '' ? 'its answer is none of Redis' : `it answers ${error}` };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ECONNREFUSED' ? { state: 'none' } : { state: 'unsure', why: `it gives no answer (${message})` };
  }
}

/** What a server says to some lines until it hangs up; by hand, as a client library would reconnect and log. */
function ask(port: number, lines: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let reply = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(lines));
    socket.setEncoding('utf8').setTimeout(ANSWER_MS, () => socket.destroy(new Error('no answer')));
    socket.on('data', (text: string) => {
      reply += text;
    });
    socket.once('error', reject);
    socket.once('close', () => resolve(reply));
  });
}
