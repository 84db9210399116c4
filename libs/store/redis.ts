import { readFileSync } from 'node:fs';
import { Cluster, Redis, type RedisOptions, type Result } from 'ioredis';
import { passes, redisTrouble } from './redis-trouble.ts';

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
    pageAfter(index: string, limit: string, score: string, id: string): Result<string[], Context>;
    placeWithin(
      open: string,
      most: string,
      record: string,
      commands: string,
      ...once: string[]
    ): Result<string | null, Context>;
    placeOnce(key: string, value: string, lifeMs: string, commands: string): Result<string, Context>;
    giveBackBudget(order: string, what: 'certificate' | 'order'): Result<number, Context>;
    holdBudget(holds: string, limits: string, events: string, ...rest: string[]): Result<number, Context>;
    takeBudget(order: string, ...rest: string[]): Result<[] | [claim: number, at: number, words: string], Context>;
    takePermits(bucket: string, count: string, intervalMs: string, windowMs: string): Result<number, Context>;
  }
}

const lua = (name: string): string => readFileSync(new URL(`./${name}.lua`, import.meta.url), 'utf8');

/** A Redis, or a Redis Cluster: every key has the same hash tag, so that all commands are the same to both. */
export type RedisClient = Redis | Cluster;

/**
 * How a process uses Redis: a worker waits until Redis does what it is asked, for ever, whether it is away or has no room; the API answers
 * 503 at once instead, since its clients retry.
 */
export type RedisRole = 'worker' | 'api';

/** What is trusted, and what is shown, on connections with TLS besides what the system has. PEM. */
export interface RedisTls {
  ca?: string | undefined;
  certificate?: string | undefined;
  key?: string | undefined;
}

const roleOptions: Record<RedisRole, Pick<RedisOptions, 'maxRetriesPerRequest' | 'commandTimeout'>> = {
  worker: { maxRetriesPerRequest: null },
  api: { maxRetriesPerRequest: 1, commandTimeout: 5_000 },
};

/** Between the half and the whole of a time, so that many processes do not come at the same moment. */
const jittered = (ms: number): number => ms * (0.5 + Math.random() / 2);

/** Back soon after Redis is back; the default waits up to 5 s. */
const retryDelay = (times: number): number => jittered(Math.min(50 * 2 ** times, 1_000));

/** How long a worker waits before it asks again what Redis had no room for, ms. */
const refusedMs = 1_000;

/** The URLs of `REDIS_URL`: several, separated by commas, are nodes of a Redis Cluster. */
export function redisUrls(text: string): string[] {
  return text.split(',').map((url) => url.trim());
}

/** All nodes of a Cluster, or the one Redis. */
export function nodesOf(redis: RedisClient): Redis[] {
  return redis instanceof Cluster ? redis.nodes() : [redis];
}

/**
 * Sends the commands of one turn of the event loop together: under load every write to a socket costs more than the command in it.
 * Nothing else changes, as it would with ioredis' `enableAutoPipelining`, whose batches are given up as a whole when the connection is lost.
 */
function batchWrites(redis: Redis): void {
  const send = redis.sendCommand.bind(redis);
  redis.sendCommand = (command, stream) => {
    const { stream: socket } = redis;
    if (socket?.writable && socket.writableCorked === 0) {
      socket.cork();
      setImmediate(() => socket.uncork());
    }
    return send(command, stream);
  };
}

/** What a Cluster answers while its slots move, and its client sees to. */
const movingSlots = /^(CLUSTERDOWN|TRYAGAIN) /;

/**
 * Tells of every command that Redis refuses for now (no room, read-only, loading), and lets a worker ask it again until it is done: Redis
 * has done nothing of it. Commands of a transaction or pipeline are not asked again one by one.
 */
function outlastRefusals(redis: Redis, role: RedisRole, onError: (error: Error) => void): void {
  const send = redis.sendCommand.bind(redis);
  const watched = new WeakSet<object>();
  redis.sendCommand = (command, stream) => {
    if (!watched.has(command)) {
      watched.add(command);
      const reject = command.reject;
      const decide = (error: Error): void => {
        const waits = error.name === 'ReplyError' && !movingSlots.test(error.message) && passes(redisTrouble(error));
        if (waits) onError(error);
        if (waits && role === 'worker' && !stream && redis.status !== 'end')
          setTimeout(() => {
            // Scripts of ioredis wrap it anew each time they are sent.
            command.reject = decide;
            redis.sendCommand(command);
          }, jittered(refusedMs));
        else reject(error);
      };
      command.reject = decide;
    }
    return send(command, stream);
  };
}

/** Options of every connection to a Redis or to a node of a Cluster. */
function nodeOptions(url: string, role: RedisRole, { ca, certificate: cert, key }: RedisTls) {
  return {
    ...roleOptions[role],
    connectTimeout: 10_000,
    // One right less to ask for.
    disableClientInfo: true,
    // The address leads to another one after a failover; the connection that is there does not.
    reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
    ...(url.startsWith('rediss:') ? { tls: { ca, cert, key } } : {}),
  };
}

function open(text: string, role: RedisRole, onError: (error: Error) => void, tls: RedisTls): RedisClient {
  const urls = redisUrls(text);
  const [url = text] = urls;
  const prepare = (node: Redis): void => {
    batchWrites(node);
    outlastRefusals(node, role, onError);
  };
  const options = nodeOptions(url, role, tls);
  const enableOfflineQueue = role === 'worker';
  if (urls.length === 1) {
    const redis = new Redis(url, { ...options, enableOfflineQueue, retryStrategy: retryDelay });
    prepare(redis);
    return redis;
  }
  const { username, password } = new URL(url);
  const cluster = new Cluster(urls, {
    enableOfflineQueue,
    clusterRetryStrategy: retryDelay,
    // Every try while a failover is under way counts, too.
    maxRedirections: role === 'worker' ? Number.POSITIVE_INFINITY : 16,
    // Names stay names: certificates are for them.
    dnsLookup: (address, callback) => callback(null, address),
    redisOptions: {
      ...options,
      ...(username === '' ? {} : { username: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: decodeURIComponent(password) }),
    },
  });
  cluster.on('+node', prepare);
  return cluster;
}

/** One connection to one Redis or node, that is not opened again when it ends; it rejects commands at once then. */
export function connectOnce(url: string, tls: RedisTls = {}): Redis {
  return new Redis(url, {
    ...nodeOptions(url, 'api', tls),
    lazyConnect: true,
    connectTimeout: 3_000,
    retryStrategy: null,
  });
}

/**
 * A connection with the store's scripts, to the Cluster when several URLs are given, separated by commas; `onError` is told of every lost
 * connection (ioredis reconnects by itself), and of every command that Redis refuses for now.
 */
export function connectRedis(
  url: string,
  role: RedisRole,
  onError: (error: Error) => void,
  tls: RedisTls = {},
): RedisClient {
  const redis = open(url, role, onError, tls);
  redis.defineCommand('commit', { numberOfKeys: 1, lua: lua('commit') });
  redis.defineCommand('createNamed', { numberOfKeys: 1, lua: lua('create-named') });
  redis.defineCommand('replaceNamed', { numberOfKeys: 1, lua: lua('replace-named') });
  redis.defineCommand('placeOnce', { numberOfKeys: 1, lua: lua('place-once') });
  redis.defineCommand('giveBackBudget', { numberOfKeys: 1, lua: lua('give-back-budget') });
  redis.defineCommand('holdBudget', { numberOfKeys: 3, lua: lua('hold-budget') });
  redis.defineCommand('takeBudget', { numberOfKeys: 1, lua: lua('take-budget') });
  redis.defineCommand('takePermits', { numberOfKeys: 1, lua: lua('take-permits') });
  redis.defineCommand('saveDrift', { numberOfKeys: 1, lua: lua('save-drift') });
  redis.defineCommand('pageAfter', { numberOfKeys: 1, lua: lua('page') });
  redis.defineCommand('placeWithin', { numberOfKeys: 1, lua: lua('place-within') });
  redis.on('error', onError);
  return redis;
}
