import { spawn } from 'node:child_process';
import { access, cp, mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const KEYRINGS = [
  '/usr/share/keyrings/debian-archive-keyring.gpg',
  '/usr/share/keyrings/debian-archive-keyring.pgp', // from Debian 14 on
];

/** Says on stderr what takes a while, one line each: the first run installs programs, and silence looks like a hang. */
export function progress(line: string): void {
  process.stderr.write(`lab: ${line}\n`);
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Runs a program to its end and gives its standard output; a failure carries the last lines it wrote to stderr. */
export async function run(program: string, args: readonly string[], cwd?: string): Promise<string> {
  // dpkg's scripts need the administrator's folders, which a minimal PATH leaves out.
  const env = {
    ...process.env,
    PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin`,
    DEBIAN_FRONTEND: 'noninteractive',
    LC_ALL: 'C.UTF-8',
  };
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env, ...(cwd === undefined ? {} : { cwd }) });
  let out = '';
  let err = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${program} failed (${code ?? signal}): ${err.trim().split('\n').slice(-5).join(' | ')}`));
    });
  });
}

/** Whether packages can be fetched here at all: Debian's tools are there, and the keys that its packages are signed with. */
export async function isDebian(): Promise<boolean> {
  const tools = await Promise.all(['/usr/bin/apt-get', '/usr/bin/dpkg-deb', '/etc/debian_version'].map(exists));
  return tools.every(Boolean);
}

/**
 * Installs Redis's program and links it into `folder`; root only. On Debian the program is in `redis-tools` (one
 * binary under several names); the package `redis-server` adds only the link and a system service, and starting a
 * service on somebody's machine is more than was asked for.
 */
export async function installRedis(folder: string): Promise<string> {
  progress('installing redis-tools with apt-get (it holds the redis-server program; no service is set up)');
  // `apt-get install` waits for another dpkg by itself with this option.
  const install = ['-qq', '-y', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120', 'install', 'redis-tools'];
  try {
    await run('apt-get', install);
  } catch {
    // No package lists yet, as in a fresh container, or lists so old that their packages have gone from the mirror.
    progress('fetching package lists with apt-get update');
    await run('apt-get', ['-qq', 'update']);
    await run('apt-get', install);
  }
  const link = join(folder, 'redis-server');
  await mkdir(folder, { recursive: true });
  await rm(link, { force: true });
  await symlink('/usr/bin/redis-check-rdb', link);
  return link;
}

/** Options for apt that keep its lists and downloads in a folder of ours, so that no root is needed and the machine stays as it is. */
function aptBeside(work: string, more: Record<string, string> = {}): string[] {
  const options = {
    'Dir::State::Lists': join(work, 'lists'),
    'Dir::Cache': join(work, 'cache'),
    'Acquire::Languages': 'none',
    'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled': 'false',
    'Acquire::Retries': '3',
    'APT::Update::Error-Mode': 'any', // otherwise `update` exits 0 when it fetched nothing
    'APT::Sandbox::User': 'root', // apt's own user cannot write into a folder of ours
    ...more,
  };
  return ['-qq', ...Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
}

/** The mirror that this machine itself uses, so that no network is needed which apt does not have already. */
async function debianMirror(): Promise<string> {
  const uris = await run('apt-get', ['indextargets', '--format', '$(REPO_URI)']);
  const mirror = uris.split('\n').find((uri) => /\/debian\/*$/.test(uri));
  if (mirror === undefined) throw new Error('apt names no Debian mirror (apt-get indextargets)');
  return mirror;
}

async function keyring(): Promise<string> {
  for (const file of KEYRINGS) if (await exists(file)) return file;
  throw new Error('the package debian-archive-keyring is not installed');
}

/**
 * Puts the programs of the newest Pebble, which Debian has in its development branch, into `folder`. apt works on
 * lists and caches of its own here, so the machine's packages and sources stay as they are, and no root is needed.
 */
export async function fetchPebble(folder: string): Promise<void> {
  progress('fetching pebble from Debian sid');
  await mkdir(dirname(folder), { recursive: true });
  const work = await mkdtemp(`${folder}.`);
  try {
    const sources = join(work, 'sources.list');
    await mkdir(join(work, 'lists', 'partial'), { recursive: true });
    await mkdir(join(work, 'cache', 'archives', 'partial'), { recursive: true });
    await writeFile(sources, `deb [signed-by=${await keyring()}] ${await debianMirror()} sid main\n`);
    const apt = aptBeside(work, { 'Dir::Etc::SourceList': sources, 'Dir::Etc::SourceParts': '/nonexistent' });
    await run('apt-get', [...apt, 'update']);
    await run('apt-get', [...apt, 'download', 'pebble'], work);
    const archive = (await readdir(work)).find((name) => name.endsWith('.deb'));
    if (archive === undefined) throw new Error('apt-get download left no package');
    await run('dpkg-deb', ['-x', archive, 'unpacked'], work);
    const programs = join(work, 'programs');
    await cp(join(work, 'unpacked', 'usr', 'bin'), programs, { recursive: true });
    await run(join(programs, 'pebble'), ['-version']); // a C library too old for it shows here, not in a test
    await rm(folder, { recursive: true, force: true });
    await rename(programs, folder); // whole or not at all, for whoever looks meanwhile
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/**
 * Unpacks packages of Debian into `folder`, with the libraries that this machine lacks for them. Nothing is installed: no service is set up,
 * no scripts of theirs run, and no root is needed. What the machine has installed already is not among the files.
 */
export async function unpackPackages(folder: string, packages: readonly string[]): Promise<void> {
  progress(`fetching ${packages.join(', ')} from Debian (unpacked, not installed)`);
  await mkdir(dirname(folder), { recursive: true });
  const work = await mkdtemp(`${folder}.`);
  try {
    const archives = join(work, 'cache', 'archives');
    await mkdir(join(work, 'lists', 'partial'), { recursive: true });
    await mkdir(join(archives, 'partial'), { recursive: true });
    const apt = aptBeside(work, { 'Debug::NoLocking': 'true' }); // the lock of dpkg is root's, and nothing is installed
    await run('apt-get', [...apt, 'update']);
    const download = ['-y', '--no-install-recommends', '--download-only', 'install'];
    await run('apt-get', [...apt, ...download, ...packages]);
    const unpacked = join(work, 'unpacked');
    await mkdir(unpacked);
    const names = (await readdir(archives)).filter((name) => name.endsWith('.deb'));
    for (const name of names) await run('dpkg-deb', ['-x', join(archives, name), unpacked]);
    await rm(folder, { recursive: true, force: true });
    await rename(unpacked, folder); // whole or not at all, for whoever looks meanwhile
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** OpenSSH's server, with nss_wrapper, which lets it see users of our own. */
export const fetchSshd = (folder: string): Promise<void> =>
  unpackPackages(folder, ['openssh-server', 'libnss-wrapper']);
