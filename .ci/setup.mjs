// Makes `npm start`, `npm run demo` and `npm test` work straight after `git clone`: npm runs this before each of them.
// It runs on whatever Node the machine has (20 or later), before any package is there, so it is plain JavaScript and
// imports nothing but Node's own modules.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const NODE_MAJOR = 24; // the first that this project is run with: it executes TypeScript as it is
const OLDEST_MAJOR = 20; // the first that can install the packages
const WAIT_FOR_OTHER_MS = 5 * 60_000;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const stampFile = join(modules, '.certline-setup');
const lockFolder = join(root, '.cache', 'setup.lock');

const say = (line) => process.stderr.write(`setup: ${line}\n`);

function fail(...lines) {
  for (const line of lines) say(line);
  process.exit(1);
}

/** What the packages must match. Not the file's time: git gives a file the time of the checkout. */
const wanted = () =>
  createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');

function readOrNothing(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** Whether production packages are all that is asked for, as in an image: Node then comes from the machine. */
const withoutDev = () => process.env.NODE_ENV === 'production' || /\bdev\b/.test(process.env.npm_config_omit ?? '');

/** Somebody typed `npm ci` or `npm install` themselves: npm's own record says whether it left what the lock file wants. */
function installedByHand() {
  const record = readOrNothing(join(modules, '.package-lock.json'));
  if (record === '') return false;
  const has = JSON.parse(record).packages;
  const wants = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(wants).every(([path, entry]) => {
    if (path === '') return true;
    const there = has[path];
    if (there === undefined) return entry.optional || entry.devOptional || entry.peer || (entry.dev && withoutDev());
    return there.version === entry.version;
  });
}

/** The Node that the npm scripts will run; empty when it does not start or is another. */
function projectNode() {
  const bin = join(modules, '.bin', process.platform === 'win32' ? 'node.cmd' : 'node');
  if (existsSync(bin)) {
    const run = spawnSync(bin, ['--version'], { encoding: 'utf8', shell: process.platform === 'win32' });
    return run.status === 0 && run.stdout.startsWith(`v${NODE_MAJOR}.`) ? run.stdout.trim() : '';
  }
  return withoutDev() && Number.parseInt(process.versions.node, 10) >= NODE_MAJOR ? process.version : '';
}

/**
 * The machine's own Node and npm, not those in node_modules: `npm ci` begins by deleting that folder, with the
 * program that would be running it.
 */
function npm(args, options) {
  const env = { ...process.env };
  env.PATH = (env.PATH ?? '')
    .split(delimiter)
    .filter((folder) => !folder.includes(`${sep}node_modules${sep}.bin`))
    .join(delimiter);
  const { npm_execpath: cli, npm_node_execpath: node = process.execPath } = process.env;
  const outside = !node.startsWith(modules + sep);
  return cli?.endsWith('.js') && outside
    ? spawnSync(node, [cli, ...args], { cwd: root, env, ...options })
    : spawnSync('npm', args, { cwd: root, env, shell: process.platform === 'win32', ...options });
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Two scripts started at once: the second waits, then finds the work done. */
function takeLock() {
  const owner = join(lockFolder, 'pid');
  const pause = new Int32Array(new SharedArrayBuffer(4));
  mkdirSync(dirname(lockFolder), { recursive: true });
  for (let waited = 0; waited <= WAIT_FOR_OTHER_MS; waited += 200) {
    try {
      mkdirSync(lockFolder);
      writeFileSync(owner, String(process.pid));
      process.on('exit', () => rmSync(lockFolder, { recursive: true, force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (waited === 0) say('waiting for another set-up to finish');
    const pid = Number(readOrNothing(owner));
    // No pid yet means that the owner is between its two steps; one that stays so for a second is gone.
    if (pid > 0 ? !alive(pid) : waited >= 1000) rmSync(lockFolder, { recursive: true, force: true });
    else Atomics.wait(pause, 0, 0, 200);
  }
  fail(`another set-up has held ${lockFolder} for too long; remove that folder if none is running`);
}

function install() {
  say('installing packages with npm ci (about a minute the first time)');
  rmSync(stampFile, { force: true });
  // Errors only: warnings about versions of the machine's Node do not matter to scripts that run the project's Node.
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error', ...(withoutDev() ? [] : ['--include=dev'])];
  const run = npm(args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (run.status === 0) return;
  const said = run.stderr ?? '';
  // Of a lock file that does not fit, npm goes on to print its whole manual.
  process.stderr.write(said.split('npm error Clean install a project')[0]);
  fail(
    run.error ? `npm could not be started: ${run.error.message}` : `npm ci failed (exit ${run.status ?? run.signal})`,
    ...(said.includes('EUSAGE')
      ? ['package.json and package-lock.json do not fit together: run `npm install` and commit package-lock.json']
      : [
          'npm needs its registry: check the network, a proxy (npm config set proxy …) or a company CA (npm config set cafile …),',
          'then run the command again, or `npm ci` by hand to see all of its output',
        ]),
  );
}

function checkNode() {
  if (projectNode() !== '') return;
  const scripts = npm(['config', 'get', 'ignore-scripts'], { encoding: 'utf8' });
  fail(
    `node_modules/.bin/node is not a working Node ${NODE_MAJOR}: the install script of the package "node" did not run or failed`,
    scripts.stdout?.trim() === 'true'
      ? 'because npm is configured with ignore-scripts=true. Run: npm rebuild node --ignore-scripts=false'
      : 'Run: npm rebuild node --foreground-scripts   (it downloads the program for this machine and shows why it cannot)',
    `or use a Node ${NODE_MAJOR} of your own: npm ci --omit=dev && NODE_ENV=production npm start`,
  );
}

if (Number.parseInt(process.versions.node, 10) < OLDEST_MAJOR) {
  fail(`Node ${OLDEST_MAJOR} or later is needed to set up; this is ${process.version}`);
}
if (readOrNothing(stampFile) !== wanted()) {
  takeLock();
  if (readOrNothing(stampFile) !== wanted()) {
    if (!installedByHand()) install();
    checkNode();
    writeFileSync(stampFile, wanted());
    say('ready');
  }
}
