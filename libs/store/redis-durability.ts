import type { Redis } from 'ioredis';
import { CertlineError } from '../errors.ts';
import { nodesOf, type RedisClient } from './redis.ts';

export interface RedisDurability {
  /** Whether an acknowledged write survives a crash of Redis and of its machine. */
  durable: boolean;
  appendonly: string;
  appendfsync: string;
  maxmemoryPolicy: string;
  /** What a person ought to change, in words. */
  warnings: string[];
}

type Found = Pick<RedisDurability, 'appendonly' | 'appendfsync' | 'maxmemoryPolicy'>;

const unknown = 'unknown';

/** What Redis does not tell, since it is a hosted one or the user has no right to ask, is unknown. */
async function unlessRefused<T>(asked: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Error && error.name === 'ReplyError') return otherwise;
    throw error;
  }
}

async function look(node: Redis): Promise<Found> {
  // INFO tells two of them to those who may not ask CONFIG.
  const info = await unlessRefused(node.info(), '');
  const read = async (name: string): Promise<string | undefined> => {
    const reply = await unlessRefused(node.config('GET', name) as Promise<string[]>, []);
    return reply[1];
  };
  const said = (name: string): string | undefined => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1];
  const aof = { 1: 'yes', 0: 'no' }[said('aof_enabled') ?? ''];
  return {
    appendonly: (await read('appendonly')) ?? aof ?? unknown,
    appendfsync: (await read('appendfsync')) ?? unknown,
    maxmemoryPolicy: (await read('maxmemory-policy')) ?? said('maxmemory_policy') ?? unknown,
  };
}

function warningsOf({ appendonly, appendfsync, maxmemoryPolicy }: Found): string[] {
  const warnings: string[] = [];
  if (appendonly !== 'yes')
    warnings.push(`appendonly is ${appendonly}: set it to yes, or a crash of Redis loses orders`);
  else if (appendfsync !== 'always') {
    warnings.push(
      `appendfsync is ${appendfsync}: set it to always, or a crash loses the last seconds of acknowledged orders`,
    );
  }
  if (maxmemoryPolicy === unknown)
    warnings.push('maxmemory-policy is unknown: it has to be noeviction, or orders vanish when memory is short');
  return warnings;
}

/** The worst that was found: what one node has is no better for what the others have. */
function worst(found: readonly Found[], name: keyof Found, good: string): string {
  return found.map((one) => one[name]).find((value) => value !== good) ?? good;
}

/**
 * Reads how safe writes are; of a Cluster from all nodes, since a replica may be the master tomorrow. Throws `store_unavailable` when Redis
 * may evict keys: orders would vanish. A Redis that tells nothing is reported as unknown.
 */
export async function checkDurability(redis: RedisClient): Promise<RedisDurability> {
  const found = await Promise.all(nodesOf(redis).map(look));
  const all: Found = {
    appendonly: worst(found, 'appendonly', 'yes'),
    appendfsync: worst(found, 'appendfsync', 'always'),
    maxmemoryPolicy: worst(found, 'maxmemoryPolicy', 'noeviction'),
  };
  const evicting = found.map((one) => one.maxmemoryPolicy).find((one) => one !== 'noeviction' && one !== unknown);
  if (evicting) {
    throw new CertlineError(
      'store_unavailable',
      `Redis has maxmemory-policy ${evicting}, which would delete orders; set it to noeviction`,
      { plan: { kind: 'permanent' } },
    );
  }
  const warnings = warningsOf(all);
  return { durable: warnings.length === 0, ...all, warnings };
}
