import { constants } from 'node:fs';
import { access, glob, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { systemClock } from '#libs/clock';
import { exists, fetchPebble, fetchSshd, installRedis, isDebian, progress } from './debian-packages.ts';

/** How a program is run: a file on this machine, or an image in Docker with the first words of its command. */
export type Program = { kind: 'file'; path: string } | { kind: 'image'; image: string; command: readonly string[] };

const CACHE = join(import.meta.dirname, '..', '..', '.cache');
const REDIS_IMAGE = 'redis:8';
const PEBBLE_IMAGE = 'ghcr.io/letsencrypt/pebble:latest';
const CHALLTESTSRV_IMAGE = 'ghcr.io/letsencrypt/pebble-challtestsrv:latest';
const LOCK_WAIT_MS = 5 * 60_000;
const LOCK_POLL_MS = 100;

/** Where a program is that the shell would find; undefined when it would find none. */
export async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, name);
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path;
  }
  return undefined;
}

/**
 * Whether a Pebble is new enough. `pebble -version` says "dev" in Debian's builds, so the program itself is searched
 * for the names of what is needed of it: renewal information and dns-persist-01, or a DoH listener to switch off.
 */
async function contains(path: string, words: readonly string[]): Promise<boolean> {
  const bytes = await readFile(path);
  return words.every((word) => bytes.includes(word));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** One installation at a time over all processes of this folder: test files start together and would all install. */
export async function withLock<T>(name: string, action: () => Promise<T>): Promise<T> {
  const folder = join(CACHE, `${name}.lock`);
  const owner = join(folder, 'pid');
  await mkdir(CACHE, { recursive: true });
  const start = systemClock.now();
  for (;;) {
    try {
      await mkdir(folder);
      await writeFile(owner, String(process.pid));
      break;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
    const waited = systemClock.now() - start;
    const pid = Number(await readFile(owner, 'utf8').catch(() => '0'));
    // No pid yet: its owner is between the two steps above, unless that lasts.
    if (pid > 0 ? !isAlive(pid) : waited > 2_000) await rm(folder, { recursive: true, force: true });
    else if (waited > LOCK_WAIT_MS) throw new Error(`${folder} is held by process ${pid} for too long`);
    else await systemClock.sleep(LOCK_POLL_MS);
  }
  try {
    return await action();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Whether a Docker engine answers. testcontainers is a development dependency, so it is loaded only when it comes to it. */
async function dockerAnswers(): Promise<boolean> {
  try {
    const { getContainerRuntimeClient } = await import('testcontainers');
    await getContainerRuntimeClient();
    return true;
  } catch {
    return false;
  }
}

/** Tries a way to install and goes on to the next when it fails; what went wrong is kept for the final error. */
async function attempt<T>(failures: string[], action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    progress(`that did not work: ${reason}`);
    failures.push(reason);
    return undefined;
  }
}

function noWay(what: string, advice: string, failures: readonly string[]): Error {
  const why = failures.length === 0 ? '' : ` (tried: ${failures.join('; ')})`;
  return new Error(`${what} is needed and is not on this machine. ${advice}${why}`);
}

/** A Redis server to run: on PATH, installed earlier, installed now with apt-get (root on Debian), or in Docker. */
export async function provideRedisServer(): Promise<Program> {
  const cached = join(CACHE, 'redis', 'redis-server');
  const present = async () => (await onPath('redis-server')) ?? ((await exists(cached)) ? cached : undefined);
  const path = await present();
  if (path !== undefined) return { kind: 'file', path };

  const failures: string[] = [];
  if (process.getuid?.() === 0 && (await isDebian())) {
    const installed = await attempt(failures, () =>
      withLock('redis', async () => (await present()) ?? installRedis(join(CACHE, 'redis'))),
    );
    if (installed !== undefined) return { kind: 'file', path: installed };
  }
  if (await dockerAnswers()) return { kind: 'image', image: REDIS_IMAGE, command: ['redis-server'] };
  const advice =
    'Install it (Debian: apt-get install redis-server), start Docker, or set REDIS_URL to a Redis of yours.';
  throw noWay('redis-server', advice, failures);
}

/** Pebble 2.10 or later with its DNS server: on PATH, fetched earlier, fetched now from Debian, or in Docker. */
export async function providePebble(): Promise<{ pebble: Program; challtestsrv: Program }> {
  const folder = join(CACHE, 'pebble');
  const files = (pebble: string, challtestsrv: string): { pebble: Program; challtestsrv: Program } => ({
    pebble: { kind: 'file', path: pebble },
    challtestsrv: { kind: 'file', path: challtestsrv },
  });
  const cached = files(join(folder, 'pebble'), join(folder, 'pebble-challtestsrv'));
  // Fetched copies are moved into place whole, so one file stands for both.
  if (await exists(join(folder, 'pebble'))) return cached;
  const [pebble, challtestsrv] = await Promise.all([onPath('pebble'), onPath('pebble-challtestsrv')]);
  if (pebble !== undefined && challtestsrv !== undefined) {
    const newEnough =
      (await contains(pebble, ['renewalInfo', 'dns-persist-01'])) && (await contains(challtestsrv, ['doh-cert-key']));
    if (newEnough) return files(pebble, challtestsrv);
  }

  const failures: string[] = [];
  if (await isDebian()) {
    const fetched = await attempt(failures, () =>
      withLock('pebble', async () => {
        if (!(await exists(join(folder, 'pebble')))) await fetchPebble(folder);
        return cached;
      }),
    );
    if (fetched !== undefined) return fetched;
  }
  if (await dockerAnswers()) {
    return {
      pebble: { kind: 'image', image: PEBBLE_IMAGE, command: [] },
      challtestsrv: { kind: 'image', image: CHALLTESTSRV_IMAGE, command: [] },
    };
  }
  const advice = 'Start Docker, or put pebble and pebble-challtestsrv 2.10 or later on PATH.';
  throw noWay('pebble', advice, failures);
}

/** An OpenSSH server to run. */
export interface SshdProgram {
  path: string;
  /** ssh-keygen of the same OpenSSH. */
  keygen: string;
  /** Its helper programs, where it is not at the place that it was built for; the newest have two. */
  parts: { SshdSessionPath?: string; SshdAuthPath?: string };
  /** Folder with libraries that the machine lacks for it. */
  libraries: string | null;
  /** nss_wrapper, with which it sees users of our own; without it only users of the machine. */
  wrapper: string | null;
}

async function unpackedSshd(folder: string): Promise<SshdProgram | undefined> {
  const path = join(folder, 'usr', 'sbin', 'sshd');
  if (!(await exists(path))) return undefined;
  const find = async (name: string): Promise<string | undefined> => {
    for await (const found of glob(`usr/lib/**/${name}`, { cwd: folder })) return join(folder, found);
    return undefined;
  };
  const [session, auth, wrapper] = await Promise.all(['sshd-session', 'sshd-auth', 'libnss_wrapper.so'].map(find));
  // Unpacked with it, unless the machine has it already.
  const keygen = join(folder, 'usr', 'bin', 'ssh-keygen');
  return {
    path,
    keygen: (await exists(keygen)) ? keygen : 'ssh-keygen',
    parts: {
      ...(session === undefined ? {} : { SshdSessionPath: session }),
      ...(auth === undefined ? {} : { SshdAuthPath: auth }),
    },
    libraries: wrapper === undefined ? null : dirname(wrapper),
    wrapper: wrapper ?? null,
  };
}

/** An OpenSSH server: unpacked earlier, unpacked now from Debian, or the one of the machine. */
export async function provideSshd(): Promise<SshdProgram> {
  const folder = join(CACHE, 'sshd');
  const cached = await unpackedSshd(folder);
  if (cached) return cached;
  const failures: string[] = [];
  if (await isDebian()) {
    const fetched = await attempt(failures, () =>
      withLock('sshd', async () => {
        if (!(await exists(folder))) await fetchSshd(folder);
        return unpackedSshd(folder);
      }),
    );
    if (fetched !== undefined) return fetched;
  }
  const places = ['/usr/sbin/sshd', '/usr/local/sbin/sshd'];
  const found =
    (await onPath('sshd')) ?? (await Promise.all(places.map(exists))).map((is, at) => is && places[at]).find(Boolean);
  if (found) return { path: found, keygen: 'ssh-keygen', parts: {}, libraries: null, wrapper: null };
  throw noWay('sshd', 'Install it (Debian: apt-get install openssh-server).', failures);
}
