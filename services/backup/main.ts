import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock as clock } from '#libs/clock';
import { forgetSecrets, readConfig } from '#libs/config';
import { checkMasterKeys } from '#libs/service/open-secret-box';
import { createKeys } from '#libs/store/keys';
import { connectRedis, type RedisClient } from '#libs/store/redis';
import { runningRedis, startRedis } from '../lab/redis.ts';
import { backUp } from './back-up.ts';
import { connectToNode } from './key-node.ts';
import { restoreCopy } from './restore-copy.ts';

const usage = 'npm run backup -- FILE, or npm run restore -- FILE [--replace]';
/** What `npm start` keeps. */
const redisDir = join(process.cwd(), 'data', 'redis');
const masterKeyFile = join(process.cwd(), 'data', 'master.key');
const tellEveryMs = 2_000;

const config = readConfig(['redis', 'secrets'], process.env);
forgetSecrets(process.env);

const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stopping.abort(new Error(`stopped by ${signal}`)));

const say = (line: string): boolean => process.stdout.write(`${line}\n`);

/** Says now and then how far it is. */
function progress(words: (...counts: number[]) => string): (...counts: number[]) => void {
  let last = clock.now();
  return (...counts) => {
    stopping.signal.throwIfAborted();
    if (clock.now() - last < tellEveryMs) return;
    last = clock.now();
    say(words(...counts));
  };
}

/** The Redis of `npm start`: the one that runs, or else one that runs meanwhile. */
async function ownRedis(): Promise<{ url: string; close(): Promise<void> }> {
  const url = await runningRedis(redisDir);
  if (url !== null) return { url, close: async () => {} };
  return startRedis({ dir: redisDir, password: randomBytes(24).toString('base64url') });
}

async function withRedis(work: (redis: RedisClient) => Promise<void>): Promise<void> {
  const own = config.REDIS_URL ? null : await ownRedis();
  const { promise: failed, reject } = Promise.withResolvers<never>();
  const onError = (error: Error): void => reject(new Error(`Redis: ${error.message}`));
  const tls = { ca: config.REDIS_CA, certificate: config.REDIS_CERTIFICATE, key: config.REDIS_KEY };
  const redis = connectRedis(config.REDIS_URL ?? own?.url ?? '', 'worker', onError, tls);
  try {
    await Promise.race([new Promise((ready) => redis.once('ready', ready)), failed]);
    await Promise.race([work(redis), failed]);
  } finally {
    redis.disconnect();
    await own?.close();
  }
}

async function backup(path: string): Promise<void> {
  if (!config.REDIS_URL && !existsSync(redisDir))
    throw new Error('there is no installation in ./data: set REDIS_URL, or go to the folder where `npm start` runs');
  await withRedis(async (redis) => {
    const onProgress = progress((keys = 0) => `${keys} keys copied`);
    const { takenAt, size } = await backUp({ path, redis, namespace: config.NAMESPACE, clock, onProgress });
    say(`${path}: all of certline as of ${new Date(takenAt).toISOString()}, ${size} bytes`);
  });
  say('Keep the master keys too, elsewhere: without them it is worth nothing.');
}

/** The keys that the services will be started with. */
function masterKeys(): string {
  const own = !config.REDIS_URL && existsSync(masterKeyFile) ? readFileSync(masterKeyFile, 'utf8').trim() : '';
  return config.MASTER_KEY || own;
}

async function restore(path: string, replace: boolean): Promise<void> {
  await withRedis(async (redis) => {
    const [node] = await connectToNode(redis, createKeys(config.NAMESPACE).tag, 1);
    if (!node) throw new Error('there is no connection');
    try {
      const { takenAt } = await restoreCopy({
        ...{ path, redis: node, namespace: config.NAMESPACE, replace },
        checkMasterKeys(proofs) {
          const ids = Object.keys(proofs).map((id) => `"${id}"`);
          if (masterKeys() === '' && ids.length > 0)
            throw new Error(`MASTER_KEY is not set, and the secrets in ${path} are sealed with ${ids.join(', ')}`);
          if (ids.length > 0) checkMasterKeys(masterKeys(), proofs);
        },
        onProgress: progress((keys = 0, of = 0) => `${keys} of ${of} keys restored`),
      });
      say(`Restored: all of certline as of ${takenAt}. Start the services.`);
      say('The installation that the copy is of must never run again beside this one.');
    } finally {
      node.disconnect();
    }
  });
}

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { replace: { type: 'boolean' } } });
  const [command, file, ...others] = positionals;
  if (!file || others.length > 0) throw new Error(`name one file: ${usage}`);
  if (command === 'backup') await backup(resolve(file));
  else if (command === 'restore') await restore(resolve(file), values.replace === true);
  else throw new Error(usage);
} catch (error) {
  process.stderr.write(`certline: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
