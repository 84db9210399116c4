import type { Redis } from 'ioredis';
import { Cluster, type RedisOptions } from 'ioredis';
import type { RedisClient } from '#libs/store/redis';

/** The Redis that has all keys of a hash tag: in a cluster the node that has its slot now. */
async function nodeOf(redis: RedisClient, tag: string): Promise<Redis> {
  if (!(redis instanceof Cluster)) return redis;
  const slot = await redis.cluster('KEYSLOT', tag);
  const [address] = redis.slots[slot] ?? [];
  const node = redis.nodes('master').find(({ options }) => `${options.host}:${options.port}` === address);
  if (node === undefined) throw new Error(`no node of the cluster has slot ${slot}, that of ${tag}`);
  return node;
}

/**
 * Opens connections to the Redis that has all keys of a hash tag. They do not come back when they are lost: what is copied there has to come
 * from one server, without a gap.
 */
export async function connectToNode(redis: RedisClient, tag: string, count: number): Promise<Redis[]> {
  const node = await nodeOf(redis, tag);
  const options: Partial<RedisOptions> = {
    // With RESP3 ioredis drops what Redis says of changed keys.
    protocol: 2,
    lazyConnect: true,
    retryStrategy: () => null,
    autoResendUnfulfilledCommands: false,
    enableOfflineQueue: false,
    maxRetriesPerRequest: null,
  };
  const connections = Array.from({ length: count }, () => node.duplicate(options));
  // The command that was under way says so.
  for (const connection of connections) connection.on('error', () => {});
  await Promise.all(connections.map((connection) => connection.connect()));
  return connections;
}
