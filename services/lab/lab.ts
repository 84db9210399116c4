import { randomBytes } from 'node:crypto';
import { mkdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Pebble, type PebbleOptions, startPebble } from './pebble.ts';
import { type Redis, startRedis } from './redis.ts';
import { freePort, type RunningProgram, startProgram, untilReady, withFreePorts } from './running-program.ts';

/** The services of certline, each a process of its own. */
export const serviceNames = ['api', 'validation-worker', 'issuance-worker', 'deployment-worker', 'scheduler'] as const;
export type ServiceName = (typeof serviceNames)[number];

const servicesDir = fileURLToPath(new URL('..', import.meta.url));
const readyMs = 30_000;

export interface LabOptions {
  /** Where everything is kept; made when it is not there. */
  readonly dir: string;
  /** Further settings of the services. */
  readonly env?: Readonly<Record<string, string>>;
  readonly pebble?: Partial<PebbleOptions>;
}

export interface LabHost {
  /** Its control address: the `url` of a target with transport `lab`. */
  readonly url: string;
  readonly running: RunningProgram;
}

/** What certline needs around it, all real but Windows: Redis, a CA with DNS, simulated IIS hosts; and certline's own services. */
export interface Lab {
  readonly dir: string;
  readonly redis: Redis;
  readonly pebble: Pebble;
  readonly apiUrl: string;
  readonly apiKey: string;
  /** Settings that every service is started with. */
  readonly env: Readonly<Record<string, string>>;
  /** Starts a service, or all of them in one (`standalone`), as a process; it is ready when this resolves. */
  startService(name: ServiceName | 'standalone', env?: Readonly<Record<string, string>>): Promise<RunningProgram>;
  /** Starts a simulated IIS host; the same name again takes up what it kept. */
  startHost(name: string): Promise<LabHost>;
  /** Ends everything that was started here. */
  close(): Promise<void>;
}

/** Starts Redis and Pebble; services and hosts are started as they are wanted. */
export async function startLab(options: LabOptions): Promise<Lab> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const dir = await realpath(options.dir);
  const [apiPort, challengePort] = [await freePort(), await freePort()];
  const [redis, pebble] = await Promise.all([
    startRedis({ dir: join(dir, 'redis'), password: randomBytes(24).toString('base64url') }),
    startPebble({ dir: join(dir, 'pebble'), httpPort: challengePort, ...options.pebble }),
  ]);
  const apiKey = `certline_${randomBytes(32).toString('base64url')}`;
  const env = {
    REDIS_URL: redis.url,
    MASTER_KEY: `lab:${randomBytes(32).toString('base64')}`,
    BOOTSTRAP_API_KEY: apiKey,
    API_PORT: String(apiPort),
    CHALLENGE_PORT: String(challengePort),
    HTTP01_PORT: String(challengePort),
    DNS_RESOLVERS: pebble.dns,
    METRICS_PORT: '0',
    ...options.env,
  };
  const programs: RunningProgram[] = [];
  let count = 0;

  /** Starts a TypeScript file as a process and waits until its log has a line that tells it is ready. */
  async function startProcess(name: string, file: string, settings: Record<string, string>, ready: RegExp) {
    count += 1;
    const logFile = join(dir, `${name}-${count}.log`);
    const program = { kind: 'file', path: process.execPath } as const;
    const running = await startProgram(program, { args: [file], dir, logFile, env: settings });
    let match: RegExpExecArray | null = null;
    await untilReady(running, name, logFile, readyMs, async () => {
      match = ready.exec(await readFile(logFile, 'utf8'));
      return match !== null;
    });
    programs.push(running);
    return { running, line: (match as RegExpExecArray | null)?.[0] ?? '' };
  }

  return {
    dir,
    redis,
    pebble,
    apiUrl: `http://127.0.0.1:${apiPort}`,
    apiKey,
    env,
    async startService(name, more) {
      const file = join(servicesDir, name, 'main.ts');
      const { running } = await startProcess(name, file, { ...env, ...more }, /"msg":"[a-z-]+ started"/);
      return running;
    },
    async startHost(name) {
      const file = join(servicesDir, 'lab', 'iis-host', 'main.ts');
      const settings = { LAB_DIR: join(dir, `host-${name}`) };
      const { running, line } = await withFreePorts(() => startProcess(name, file, settings, /\{"listening":true.*\}/));
      return { running, url: (JSON.parse(line) as { url: string }).url };
    },
    async close() {
      await Promise.all(programs.map((program) => program.stop('SIGTERM', 12_000)));
      await pebble.close();
      await redis.close();
    },
  };
}
