import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { withLock } from './programs.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '..', '..');
const cache = join(root, '.cache', 'powershell');
/** Where the sources lie: PowerShell's engine in a program of ours, and the stand-in for Microsoft.Web.Administration. */
const sources = join(root, 'test', 'support');
const projects = ['powershell', 'fake-iis'];
/** The first build also fetches the PowerShell engine. */
const buildTimeoutMs = 5 * 60_000;

const sdks = spawnSync('dotnet', ['--list-sdks'], { encoding: 'utf8' });
/** Whether this machine can run PowerShell scripts. */
export const hasDotnet = sdks.status === 0 && sdks.stdout.split('\n').some((line) => Number.parseInt(line, 10) >= 10);

let built: Promise<string> | undefined;

/** The path of pshost.dll, which `dotnet` runs with the arguments of powershell.exe. Built when its sources have changed. */
export function providePshost(): Promise<string> {
  built ??= build();
  return built;
}

async function build(): Promise<string> {
  const hash = createHash('sha256').update(sdks.stdout ?? '');
  for (const project of projects) {
    const folder = join(sources, project);
    for (const file of (await readdir(folder)).sort()) hash.update(file).update(await readFile(join(folder, file)));
  }
  const done = join(cache, hash.digest('hex').slice(0, 16));
  const program = join(done, 'pshost.dll');
  if (await isFile(program)) return program;
  if (!hasDotnet) throw new Error('the .NET 10 SDK (dotnet) is needed to run the PowerShell scripts');
  // Test files start side by side: one builds, the others wait for it.
  await withLock('powershell', async () => {
    if (!(await isFile(program))) await buildInto(done);
  });
  return program;
}

async function buildInto(done: string): Promise<void> {
  await mkdir(cache, { recursive: true });
  const place = await mkdtemp(join(cache, 'build-'));
  try {
    for (const project of projects) {
      await cp(join(sources, project), join(place, project), { recursive: true });
    }
    const quiet = ['--nologo', '-v', 'quiet', '--nodereuse:false', '-p:UseSharedCompilation=false'];
    await run('dotnet', ['build', 'powershell', '-c', 'Release', ...quiet], {
      cwd: place,
      timeout: buildTimeoutMs,
      env: { ...process.env, DOTNET_CLI_TELEMETRY_OPTOUT: '1', DOTNET_NOLOGO: '1' },
    }).catch((error: { stdout?: string }) => {
      throw new Error(`dotnet build failed: ${error.stdout ?? ''}`, { cause: error });
    });
    await rename(join(place, 'powershell', 'bin', 'Release', 'net10.0'), done);
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
