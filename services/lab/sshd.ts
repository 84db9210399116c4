import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { hostKeyFingerprint } from '#libs/iis/transports/ssh-connection';
import { run } from './debian-packages.ts';
import { provideSshd, type SshdProgram } from './programs.ts';
import { freePort, type RunningProgram, startProgram, untilReady, withFreePorts } from './running-program.ts';

const READY_MS = 10_000;
const STOP_MS = 5_000;
const BANNER_MS = 1_000;

export interface SshdOptions {
  /** Where it keeps its keys and its log, and home of who logs in; made when it is not there. */
  readonly dir: string;
  /** Folders that a session looks for programs in, before those of the system. */
  readonly path?: readonly string[];
  /** Further environment of the sessions. */
  readonly env?: Readonly<Record<string, string>>;
}

/** An OpenSSH server on loopback that ends when this process ends. Whoever logs in is this process's own user, under a name of its own. */
export interface Sshd {
  readonly host: string;
  readonly port: number;
  readonly username: string;
  /** A key that may log in (OpenSSH format). */
  readonly privateKey: string;
  /** Null where only keys can log in. */
  readonly password: string | null;
  /** Fingerprint of the host's ed25519 key, and of its RSA key, which clients get to see only when they ask for one. */
  readonly hostKey: string;
  readonly rsaHostKey: string;
  /** Everything it has logged. */
  log(): Promise<string>;
  /** Signals the processes that serve the connections there are: SIGKILL cuts these, SIGSTOP silences them. */
  signalConnections(name: NodeJS.Signals): Promise<void>;
  /** Takes it down; `start` brings it back at the same port, with the same host keys or new ones. */
  stop(): Promise<void>;
  start(keys?: 'same' | 'new'): Promise<void>;
  close(): Promise<void>;
}

/** Starts an OpenSSH server and waits until it answers. */
export async function startSshd(options: SshdOptions): Promise<Sshd> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const program = await provideSshd();
  const logFile = join(dir, 'sshd.log');
  const users = await makeUsers(dir, program);
  await makeKey(program, dir, 'login', 'ed25519');
  await copyFile(join(dir, 'login.pub'), join(dir, 'authorized_keys'));
  const privateKey = await readFile(join(dir, 'login'), 'utf8');
  let hostKeys = await makeHostKeys(program, dir);

  const launch = async (port: number): Promise<RunningProgram> => {
    await writeFile(join(dir, 'sshd_config'), settings(dir, port, program, users.password !== null, options));
    const running = await startProgram(
      { kind: 'file', path: program.path },
      { args: ['-D', '-e', '-f', join(dir, 'sshd_config')], dir, logFile, env: users.env },
    );
    try {
      await untilReady(running, 'sshd', logFile, READY_MS, () => answers(port));
    } catch (error) {
      await running.stop('SIGKILL', 0);
      throw error;
    }
    return running;
  };

  let port = 0;
  let running = await withFreePorts(async () => {
    port = await freePort();
    return launch(port);
  });
  const stop = async (): Promise<void> => {
    const connections = await childrenOf(running.pid);
    await running.stop('SIGTERM', STOP_MS);
    for (const pid of connections) kill(pid, 'SIGKILL');
  };
  return {
    host: '127.0.0.1',
    port,
    username: users.username,
    privateKey,
    password: users.password,
    get hostKey() {
      return hostKeys.ed25519;
    },
    get rsaHostKey() {
      return hostKeys.rsa;
    },
    log: () => readFile(logFile, 'utf8'),
    signalConnections: async (name) => {
      for (const pid of await childrenOf(running.pid)) kill(pid, name);
    },
    stop,
    start: async (keys = 'same') => {
      await stop();
      if (keys === 'new') hostKeys = await makeHostKeys(program, dir);
      running = await launch(port);
    },
    close: stop,
  };
}

function kill(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended meanwhile.
  }
}

/** The processes of its connections, one each. */
async function childrenOf(pid: number | undefined): Promise<number[]> {
  if (pid === undefined) return [];
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}

/** Makes a key without a passphrase in place of one of this name; answers its fingerprint. By OpenSSH itself: of ssh2's ed25519 keys one in 256 is broken. */
async function makeKey({ keygen }: SshdProgram, dir: string, name: string, type: 'ed25519' | 'rsa'): Promise<string> {
  const file = join(dir, name);
  for (const ending of ['', '.pub']) await rm(file + ending, { force: true });
  await run(keygen, ['-q', '-t', type, '-N', '', '-C', name, '-f', file]);
  const [, key = ''] = (await readFile(`${file}.pub`, 'utf8')).split(' ');
  return hostKeyFingerprint(Buffer.from(key, 'base64'));
}

async function makeHostKeys(program: SshdProgram, dir: string): Promise<{ ed25519: string; rsa: string }> {
  return {
    ed25519: await makeKey(program, dir, 'host-ed25519', 'ed25519'),
    rsa: await makeKey(program, dir, 'host-rsa', 'rsa'),
  };
}

/**
 * The user who logs in. nss_wrapper shows sshd a list of users of our own: a name and a password that nobody else on the machine has, with
 * the number of this process's user. Without it the user is this one, by key only.
 */
async function makeUsers(
  dir: string,
  { libraries, wrapper }: SshdProgram,
): Promise<{ username: string; password: string | null; env: Record<string, string> }> {
  const { uid, gid, username } = userInfo();
  if (wrapper === null) return { username, password: null, env: {} };
  const password = randomBytes(18).toString('base64url');
  const hash = execFileSync('openssl', ['passwd', '-6', '-stdin'], { input: password, encoding: 'utf8' }).trim();
  const files = {
    // Run by root, sshd wants a user without rights for what it does before the login.
    NSS_WRAPPER_PASSWD: `admin:x:${uid}:${gid}:admin:${dir}:/bin/sh\nsshd:x:65534:65534:sshd:/run/sshd:/usr/sbin/nologin\n`,
    NSS_WRAPPER_GROUP: `admin:x:${gid}:\nnogroup:x:65534:\n`,
    NSS_WRAPPER_SHADOW: `admin:${hash}:19000:0:99999:7:::\n`,
  };
  const env: Record<string, string> = {
    LD_PRELOAD: wrapper,
    ...(libraries === null ? {} : { LD_LIBRARY_PATH: libraries }),
  };
  for (const [name, text] of Object.entries(files)) {
    env[name] = join(dir, name.toLowerCase());
    await writeFile(env[name], text, { mode: 0o600 });
  }
  if (uid === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  return { username: 'admin', password, env };
}

function settings(
  dir: string,
  port: number,
  program: SshdProgram,
  passwords: boolean,
  { path = [], env = {} }: SshdOptions,
): string {
  const session = { PATH: [...path, '/usr/local/bin', '/usr/bin', '/bin'].join(':'), ...env };
  const variables = Object.entries(session).map(([name, value]) => {
    if (/["\\\n]/.test(value)) throw new Error(`${name} may hold no quotes, backslashes or line ends`);
    return `"${name}=${value}"`;
  });
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${join(dir, 'host-ed25519')}`,
    `HostKey ${join(dir, 'host-rsa')}`,
    'PidFile none',
    'UsePAM no',
    'UseDNS no',
    'StrictModes no', // the folder may lie in one that all may write to, as /tmp
    'PermitRootLogin yes', // whoever runs the tests logs in as themselves
    `AuthorizedKeysFile ${join(dir, 'authorized_keys')}`,
    `PasswordAuthentication ${passwords ? 'yes' : 'no'}`,
    'KbdInteractiveAuthentication no',
    'LogLevel VERBOSE',
    `SetEnv ${variables.join(' ')}`, // only the first line of these counts
    ...Object.entries(program.parts).map(([name, value]) => `${name} ${value}`),
    // Those with parts also make a client wait that came too often without logging in.
    ...(program.parts.SshdSessionPath === undefined ? [] : ['PerSourcePenalties no']),
  ];
  return `${lines.join('\n')}\n`;
}

/** Whether an SSH server says its name at the port. */
function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(BANNER_MS, () => socket.destroy());
    socket.once('data', (text) => {
      resolve(text.toString('latin1').startsWith('SSH-'));
      socket.destroy();
    });
    socket.on('error', () => {});
    socket.once('close', () => resolve(false));
  });
}
