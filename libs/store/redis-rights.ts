import type { Redis } from 'ioredis';

/** The commands of the store and of BullMQ's scripts, by the fewest words that each takes: Redis looks at rights only when there are enough. */
const commands: [names: string, words: (key: string) => string[]][] = [
  ['ping time info', () => []],
  ['scan', () => ['0']],
  ['eval evalsha', () => ['return 1', '0']],
  ['get mget exists type del unlink persist pttl incr', (key) => [key]],
  ['hgetall hkeys hvals hlen smembers scard zcard zpopmin llen lpop rpop xlen', (key) => [key]],
  ['set pexpire pexpireat incrby hget hmget hdel hexists', (key) => [key, '1']],
  ['sadd srem sismember zscore zrem lpush rpush lindex lpos xdel bzpopmin', (key) => [key, '1']],
  ['rename rpoplpush', (key) => [key, key]],
  ['hset hmset hsetnx hincrby lset lrem lrange ltrim xrange xrevrange xtrim', (key) => [key, '1', '1']],
  ['setrange zadd zincrby zcount zrange zrangebyscore zrangebylex zlexcount', (key) => [key, '1', '1']],
  ['zrevrange zrevrangebyscore zremrangebyscore zremrangebyrank', (key) => [key, '1', '1']],
  ['zdiff', (key) => ['1', key]],
  ['xadd', (key) => [key, '*', 'field', '1']],
  ['xread', (key) => ['STREAMS', key, '0']],
];

/**
 * Names of the commands that the user of a connection may not give, or not with keys of this hash tag. Nothing is done: rights are looked at
 * when a command is queued for a transaction, which is then given up.
 */
export async function missingRights(node: Redis, tag: string): Promise<string[]> {
  const key = `${tag}:rights`;
  const missing: string[] = [];
  const ask = async (name: string, ...words: string[]): Promise<void> => {
    await node.call(name, ...words).catch((error: unknown) => {
      // Other errors, such as MOVED of a node that has other slots, come after rights.
      if (!(error instanceof Error && error.name === 'ReplyError')) throw error;
      if (error.message.startsWith('NOPERM')) missing.push(name.toUpperCase());
    });
  };
  await ask('multi');
  // Outside of a transaction they would be done.
  if (missing.length > 0) return missing;
  await Promise.all(commands.flatMap(([names, words]) => names.split(' ').map((name) => ask(name, ...words(key)))));
  await ask('discard');
  return missing;
}
