import { readFileSync } from 'node:fs';
import { Redis, type RedisOptions, type Result } from 'ioredis';
import { CertlineError } from '../errors.ts';

/** A Redis command and its arguments, all of it text: what the Lua scripts run. */
export type Command = [name: string, ...args: string[]];

declare module 'ioredis' {
  interface RedisCommander<Context> {
    commit(record: string, version: string, write: string, commands: string): Result<number, Context>;
    createNamed(names: string, name: string, id: string, prefix: string, commands: string): Result<string, Context>;
    replaceNamed(
      record: string,
      version: string,
      write: string,
      names: string,
      name: string,
      id: string,
      prefix: string,
      commands: string,
    ): Result<string, Context>;
    saveDrift(report: string, ...rest: string[]): Result<[since: string, news: number] | null, Context>;
    placeOnce(key: string, value: string, lifeMs: string, commands: string): Result<string, Context>;
    giveBackBudget(order: string): Result<number, Context>;
    takeBudget(order: string, ...rest: string[]): Result<[] | [claim: number, at: number, words: string], Context>;
  }
}

const lua = (name: string): string => readFileSync(new URL(`./${name}.lua`, import.meta.url), 'utf8');

/**
 * How a process uses Redis: a worker waits for it to come back, for ever; the API answers 503 at once instead, since its clients retry.
 */
export type RedisRole = 'worker' | 'api';

const roleOptions: Record<RedisRole, Omit<RedisOptions, 'replyMapping'>> = {
  worker: { maxRetriesPerRequest: null },
  api: {
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    commandTimeout: 5_000,
  },
};

/**
 * Sends the commands of one turn of the event loop together: under load every write to a socket costs more than the command in it.
 * Nothing else changes, as it would with ioredis' `enableAutoPipelining`, whose batches are given up as a whole when the connection is lost.
 */
class BatchingRedis extends Redis {
  override sendCommand(...[command, stream]: Parameters<Redis['sendCommand']>): unknown {
    const { stream: socket } = this;
    if (socket?.writable && socket.writableCorked === 0) {
      socket.cork();
      setImmediate(() => socket.uncork());
    }
    return super.sendCommand(command, stream);
  }
}

/** A connection with the store's scripts; `onError` is told of every lost connection (ioredis reconnects by itself). */
export function connectRedis(url: string, role: RedisRole, onError: (error: Error) => void): Redis {
  const redis = new BatchingRedis(url, {
    // Back soon after Redis is back; the default waits up to 5 s.
    retryStrategy: (times) => Math.min(50 * 2 ** times, 1_000),
    ...roleOptions[role],
    connectTimeout: 10_000,
  });
  redis.defineCommand('commit', { numberOfKeys: 1, lua: lua('commit') });
  redis.defineCommand('createNamed', { numberOfKeys: 1, lua: lua('create-named') });
  redis.defineCommand('replaceNamed', { numberOfKeys: 1, lua: lua('replace-named') });
  redis.defineCommand('placeOnce', { numberOfKeys: 1, lua: lua('place-once') });
  redis.defineCommand('giveBackBudget', { numberOfKeys: 1, lua: lua('give-back-budget') });
  redis.defineCommand('takeBudget', { numberOfKeys: 1, lua: lua('take-budget') });
  redis.defineCommand('saveDrift', { numberOfKeys: 1, lua: lua('save-drift') });
  redis.on('error', onError);
  return redis;
}

export interface RedisDurability {
  /** Whether an acknowledged write survives a crash of Redis and of its machine. */
  durable: boolean;
  appendonly: string;
  appendfsync: string;
  maxmemoryPolicy: string;
  /** What a person ought to change, in words. */
  warnings: string[];
}

/**
 * Reads how safe writes are. Throws `store_unavailable` when Redis may evict keys: orders would vanish.
 * A Redis that hides CONFIG (some hosted ones) is reported as unknown.
 */
export async function checkDurability(redis: Redis): Promise<RedisDurability> {
  const unknown = 'unknown';
  const read = async (name: string): Promise<string> => {
    try {
      const reply = (await redis.config('GET', name)) as string[];
      return reply[1] ?? unknown;
    } catch (error) {
      if (error instanceof Error && error.name === 'ReplyError') return unknown;
      throw error;
    }
  };
  const [appendonly, appendfsync, maxmemoryPolicy] = [
    await read('appendonly'),
    await read('appendfsync'),
    await read('maxmemory-policy'),
  ];
  if (maxmemoryPolicy !== 'noeviction' && maxmemoryPolicy !== unknown) {
    throw new CertlineError(
      'store_unavailable',
      `Redis has maxmemory-policy ${maxmemoryPolicy}, which would delete orders; set it to noeviction`,
      { plan: { kind: 'permanent' } },
    );
  }
  const warnings: string[] = [];
  if (appendonly !== 'yes')
    warnings.push(`appendonly is ${appendonly}: set it to yes, or a crash of Redis loses orders`);
  else if (appendfsync !== 'always') {
    warnings.push(
      `appendfsync is ${appendfsync}: set it to always, or a crash loses the last seconds of acknowledged orders`,
    );
  }
  return {
    durable: warnings.length === 0,
    appendonly,
    appendfsync,
    maxmemoryPolicy,
    warnings,
  };
}

/** Whether an error of a command means that Redis cannot be reached now. */
export function isRedisUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name === 'MaxRetriesPerRequestError') return true;
  return /Stream isn't writeable|Connection is closed|Command timed out|ECONNREFUSED|ECONNRESET|LOADING/.test(
    error.message,
  );
}
