import type { RedisClient } from '#libs/store/redis';

/** What Redis has for its data, without the buffers of whoever is connected at the moment, bytes. */
export async function dataBytes(redis: RedisClient): Promise<number> {
  const info = await redis.info('everything');
  const field = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  return field('used_memory') - field('mem_clients_normal') - field('mem_aof_buffer');
}

/** Bytes of one key with all that is in it. */
export async function keyBytes(redis: RedisClient, key: string): Promise<number> {
  return Number((await redis.memory('USAGE', key, 'SAMPLES', 0)) ?? 0);
}

/** What all keys of a kind take together; `tag:kind:id` is one of a kind. */
export async function bytesByKind(redis: RedisClient, tag: string): Promise<Map<string, number>> {
  const kinds = new Map<string, number>();
  for (let cursor: string | null = '0'; cursor !== null; ) {
    const [next, keys]: [string, string[]] = await redis.scan(cursor, 'COUNT', 500);
    const sizes = await Promise.all(keys.map((key) => keyBytes(redis, key)));
    for (const [at, key] of keys.entries()) {
      const [kind = '', ...more] = key.slice(tag.length + 1).split(':');
      const name = [kind, ...more.slice(0, -1)].join(':');
      kinds.set(name, (kinds.get(name) ?? 0) + (sizes[at] ?? 0));
    }
    cursor = next === '0' ? null : next;
  }
  return kinds;
}
