import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { challengePath } from '#libs/challenges/http-check';
import { type BenchSettings, type Measurement, namesOf, pebbleEnv, runLoad } from './bench-load.ts';
import { startPebble } from './pebble.ts';
import { onPath } from './programs.ts';
import { freePort } from './running-program.ts';

const runProgram = promisify(execFile);
/** Ticks of /proc in a second: the same on every Linux that Node runs on (USER_HZ). */
const ticks = 100;

/** User and system time of all children of this process that have ended; null where there is no /proc. */
async function childrenCpuSeconds(): Promise<number | null> {
  const stat = await readFile('/proc/self/stat', 'utf8').catch(() => null);
  if (stat === null) return null;
  // The name of the program is in parentheses and may hold spaces: cutime and cstime are the 14th and 15th field after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / ticks;
}

/** Requests that a Pebble has had, by its log. */
async function requestsOf(pebbleDir: string): Promise<number> {
  return (await readFile(join(pebbleDir, 'pebble.log'), 'utf8')).split('-> calling handler()').length - 1;
}

/** lego, a program that makes one certificate each time it is run; null when it is not installed. */
export async function measureLego({ dir, orders, inFlight, warmUp }: BenchSettings): Promise<Measurement | null> {
  const lego = await onPath('lego');
  if (lego === undefined) return null;
  const [webroot, path, pebbleDir] = [join(dir, 'webroot'), join(dir, 'lego'), join(dir, 'pebble')];
  await mkdir(join(webroot, challengePath), { recursive: true });
  const server = createServer((request, response) => {
    readFile(join(webroot, challengePath, (request.url ?? '').slice(challengePath.length))).then(
      (answer) => response.end(answer),
      () => response.writeHead(404).end(),
    );
  });
  const httpPort = await freePort();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(httpPort, '127.0.0.1', resolve));
  const pebble = await startPebble({ dir: pebbleDir, httpPort, env: pebbleEnv });
  const run = async (name: string): Promise<void> => {
    const args = ['--server', pebble.directory, '--email', 'ops@example.com', '--accept-tos', '--path', path];
    args.push('--key-type', 'ec256', '--domains', name, '--http', '--http.webroot', webroot, 'run');
    const env = { PATH: process.env.PATH, LEGO_CA_CERTIFICATES: join(pebbleDir, 'pebble-ca.pem') };
    await runProgram(lego, args, { cwd: dir, env });
  };
  try {
    // One at a time: the first registers the account that all others order with.
    await runLoad(namesOf('warm', warmUp), 1, run);
    const [cpuBefore, requestsBefore] = [await childrenCpuSeconds(), await requestsOf(pebbleDir)];
    const load = await runLoad(namesOf('host', orders), inFlight, run);
    const cpuAfter = await childrenCpuSeconds();
    return {
      contender: 'lego',
      orders,
      warmUp,
      ...load,
      issued: pebble.issued().length,
      cpuSeconds: cpuBefore === null || cpuAfter === null ? null : cpuAfter - cpuBefore,
      caRequests: (await requestsOf(pebbleDir)) - requestsBefore,
      notes: [
        'lego: one process per certificate, account registered beforehand, answers through --http.webroot; most of its time it waits between polls',
      ],
    };
  } finally {
    await pebble.close();
    server.close();
    server.closeAllConnections();
  }
}
