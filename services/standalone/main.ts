import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { forgetSecrets, readConfig } from '#libs/config';
import { runProcess } from '#libs/service/run';
import { startRedis } from '../lab/redis.ts';
import { sections, startStandalone } from './service.ts';

const dataDir = join(process.cwd(), 'data');

/** The master key of a small installation: made at the first start, kept readable for this user alone. */
function localMasterKey(): string {
  const path = join(dataDir, 'master.key');
  if (!existsSync(path)) writeFileSync(path, `local:${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  return readFileSync(path, 'utf8').trim();
}

await runProcess(async () => {
  const config = readConfig(sections, process.env);
  forgetSecrets(process.env);
  mkdirSync(dataDir, { recursive: true });
  const redis = config.REDIS_URL
    ? null
    : await startRedis({ dir: join(dataDir, 'redis'), password: randomBytes(24).toString('base64url') });
  const settings = {
    ...config,
    REDIS_URL: config.REDIS_URL ?? redis?.url,
    MASTER_KEY: config.MASTER_KEY ?? localMasterKey(),
  };
  const all = await startStandalone(settings);
  process.stdout.write(
    `certline answers at ${all.api.url} (documentation at ${all.api.url}/docs), challenges at port ${all.api.challengePort}\n`,
  );
  if (all.api.firstKey !== null) process.stdout.write(`First API key, shown only now: ${all.api.firstKey}\n`);
  return {
    log: all.log,
    service: {
      async stop() {
        await all.stop();
        await redis?.close();
      },
    },
  };
});
