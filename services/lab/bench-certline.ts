import { systemClock } from '#libs/clock';
import { connectRedis } from '#libs/store/redis';
import { createApiClient } from './api-client.ts';
import { type BenchClient, createBenchClient } from './bench-client.ts';
import { type BenchSettings, type Measurement, namesOf, pebbleEnv, runLoad } from './bench-load.ts';
import { type Lab, startLab } from './lab.ts';
import { readMetrics } from './metric-diff.ts';

export interface CertlineSettings extends BenchSettings {
  /** A process for each service, as a larger installation has it, or all in one, as `npm start` has it. */
  readonly separate: boolean;
  /** Where Node writes a CPU profile of each service; null for none. */
  readonly profileDir: string | null;
}

const services = ['api', 'validation-worker', 'issuance-worker', 'scheduler'] as const;
const settleMs = 500;
/** As `npm start` has it; `npm run bench` gives the ceiling, which runs in its own process, the same. */
const memory = '--max-semi-space-size=32';

interface RedisState {
  bytes: number;
  keys: number;
  commands: number;
  cpuSeconds: number;
}

/** What Redis holds, without the buffers of whoever is connected at the moment. */
async function redisState(redis: ReturnType<typeof connectRedis>): Promise<RedisState> {
  const info = await redis.info('everything');
  const field = (name: string): number => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1] ?? 0);
  const buffers = field('mem_clients_normal') + field('mem_aof_buffer');
  return {
    bytes: field('used_memory') - buffers,
    keys: await redis.dbsize(),
    commands: field('total_commands_processed'),
    cpuSeconds: field('used_cpu_user') + field('used_cpu_sys'),
  };
}

/** The same once it has come to rest: the last jobs end a moment after the last client was told. */
async function settled(redis: ReturnType<typeof connectRedis>): Promise<RedisState> {
  let last = await redisState(redis);
  for (let looks = 0; looks < 20; looks += 1) {
    await systemClock.sleep(settleMs);
    const now = await redisState(redis);
    if (Math.abs(now.bytes - last.bytes) < 1_024 && now.keys === last.keys) return now;
    last = now;
  }
  return last;
}

/** As any client would do it: one request to place the order, one stream that tells of its end. */
async function order(client: BenchClient, account: unknown, name: string): Promise<void> {
  const request = { names: [name], account, challenge: { type: 'http-01' }, key: { type: 'ec-p256' } };
  await client.untilCompleted(await client.place({ ...request, deploy: { mode: 'none' } }));
}

/** Counters of certline, summed over services and labels. */
async function counters(lab: Lab): Promise<{ cpuSeconds: number; caRequests: number; attempts: number }> {
  const values = [...(await readMetrics(lab, /^certline_(acme_requests|stage_attempts|process_cpu_seconds)_total$/))];
  const sum = (name: string): number =>
    values.reduce((total, [key, value]) => (key.startsWith(name) ? total + value : total), 0);
  return {
    cpuSeconds: sum('certline_process_cpu_seconds_total'),
    caRequests: sum('certline_acme_requests_total'),
    attempts: sum('certline_stage_attempts_total'),
  };
}

async function startServices(lab: Lab, { separate, profileDir }: CertlineSettings): Promise<void> {
  const profile = profileDir === null ? '' : ` --cpu-prof --cpu-prof-dir=${profileDir}`;
  const env = { RATE_LIMIT_PER_MINUTE: '1000000', NODE_OPTIONS: `${memory}${profile}` };
  if (!separate) await lab.startService('standalone', env);
  else await Promise.all(services.map((name) => lab.startService(name, env)));
}

/** The whole pipeline through its API: everything is checked, stored, queued and told, with a real self-check of http-01. */
export async function measureCertline(settings: CertlineSettings): Promise<Measurement> {
  const { dir, orders, inFlight, warmUp, separate } = settings;
  const lab = await startLab({ dir, pebble: { env: pebbleEnv } });
  const redis = connectRedis(lab.redis.url, 'worker', () => undefined);
  const client = createBenchClient(lab.apiUrl, lab.apiKey);
  try {
    await startServices(lab, settings);
    const { directory: ca, caBundle } = lab.pebble;
    const registration = { ca, caBundle, email: 'ops@example.com', termsOfServiceAgreed: true };
    const account = await createApiClient(lab.apiUrl, lab.apiKey).send('POST', '/v1/accounts', registration);
    await runLoad(namesOf('warm', warmUp), inFlight, (name) => order(client, account.id, name));

    const [before, redisBefore, clientBefore] = [await counters(lab), await settled(redis), process.cpuUsage()];
    const load = await runLoad(namesOf('host', orders), inFlight, (name) => order(client, account.id, name));
    const clientCpu = process.cpuUsage(clientBefore);
    const [after, busy] = [await counters(lab), await redisState(redis)];
    const redisAfter = await settled(redis);

    const each = (value: number): string => (value / orders).toFixed(1);
    const clientMs = (clientCpu.user + clientCpu.system) / 1e3;
    const redisMs = (busy.cpuSeconds - redisBefore.cpuSeconds) * 1e3;
    return {
      contender: separate ? 'services' : 'certline',
      orders,
      warmUp,
      ...load,
      issued: lab.pebble.issued().length,
      cpuSeconds: after.cpuSeconds - before.cpuSeconds,
      caRequests: after.caRequests - before.caRequests,
      redis: { bytes: redisAfter.bytes - redisBefore.bytes, keys: redisAfter.keys - redisBefore.keys },
      notes: [
        `${separate ? 'services: certline, a process for each service' : 'certline: all services in one process, as `npm start` has them'}; besides the requests to the CA 1 self-check of http-01 per order`,
        `  per order ${each(busy.commands - redisBefore.commands)} Redis commands (those inside scripts too) and ${each(after.attempts - before.attempts)} stage attempts; not in its CPU: Redis ${each(redisMs)} ms, the benchmark's client ${each(clientMs)} ms`,
      ],
    };
  } finally {
    client.close();
    redis.disconnect();
    await lab.close();
  }
}
