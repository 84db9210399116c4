import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

/** A process that runs with master keys. */
export interface KeyHolder {
  /** For a person: `host, pid`. */
  process: string;
  /** Ids and fingerprints of its keys; the first one seals. */
  keys: [id: string, fingerprint: string][];
}

/** A sealed secret as it was read. */
export interface SealedSecret {
  name: string;
  blob: string;
}

/** Which master keys are needed, which processes have them, and the secrets themselves, for when they are sealed with another key. */
export interface MasterKeyRecords {
  /** By the id of each key that a secret may be sealed with: something sealed with it. */
  proofs(): Promise<Record<string, string>>;
  /** Says for `lifeMs` that a process is there, and keeps the first proof that there is of the key it seals with. */
  announce(holder: KeyHolder, proof: string, lifeMs: number): Promise<void>;
  /** Those that have said so of late, on the clock of Redis. */
  holders(): Promise<KeyHolder[]>;
  /** Some of the secrets, from `cursor` on ('0' at first); the next cursor is null at the end. Those that are there all the time are met at least once. */
  page(cursor: string, count: number): Promise<{ secrets: SealedSecret[]; cursor: string | null }>;
  /** Replaces those of some secrets that are still as they were read. Doing it twice is harmless. */
  replace(changes: readonly { from: SealedSecret; to: string }[]): Promise<void>;
  /** By key id: how many secrets are still to be sealed anew, as far as it is known. */
  left(): Promise<Record<string, number>>;
  setLeft(left: ReadonlyMap<string, number>): Promise<void>;
  /** Forgets the proofs of all other keys, unless a process seals with one of them: then false. */
  retireOthers(current: string): Promise<boolean>;
}

const now = `local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

// In one step with the proof: a key is either seen to be in use, or its proof comes after it was retired.
const announce = `${now}redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[3])`;

const holders = `${now}return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')`;

const retire = `${now}for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')) do
  if cjson.decode(member).keys[1][1] ~= ARGV[1] then return 0 end
end
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
  if id ~= ARGV[1] then redis.call('HDEL', KEYS[1], id) end
end
redis.call('DEL', KEYS[3])
return 1`;

// A script, since SCAN itself names no key, by which a cluster would know its node.
const page = `local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local answer = { found[1] }
for _, key in ipairs(found[2]) do
  local blob = redis.call('GET', key)
  if blob then
    table.insert(answer, key)
    table.insert(answer, blob)
  end
end
return answer`;

const replace = `for at, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[2 * at - 1] then redis.call('SET', key, ARGV[2 * at], 'KEEPTTL') end
end`;

export function createMasterKeyRecords(redis: RedisClient, keys: Keys): MasterKeyRecords {
  return {
    proofs: () => redis.hgetall(keys.masterKeys),
    async announce(holder, proof, lifeMs) {
      const [[id] = ['']] = holder.keys;
      await redis.eval(announce, 2, keys.masterKeys, keys.keyHolders, id, proof, JSON.stringify(holder), lifeMs);
    },
    async holders() {
      const members = (await redis.eval(holders, 1, keys.keyHolders)) as string[];
      return members.map((member): KeyHolder => JSON.parse(member));
    },
    async page(cursor, count) {
      const reply = await redis.eval(page, 1, keys.masterKeys, cursor, `${keys.secret('')}*`, count);
      const [next, ...pairs] = reply as string[];
      const secrets: SealedSecret[] = [];
      for (let at = 0; at + 1 < pairs.length; at += 2) {
        const [key = '', blob = ''] = pairs.slice(at, at + 2);
        secrets.push({ name: key.slice(keys.secret('').length), blob });
      }
      return { secrets, cursor: next === undefined || next === '0' ? null : next };
    },
    async replace(changes) {
      if (changes.length === 0) return;
      const names = changes.map(({ from }) => keys.secret(from.name));
      await redis.eval(replace, names.length, ...names, ...changes.flatMap(({ from, to }) => [from.blob, to]));
    },
    async left() {
      const left = Object.entries(await redis.hgetall(keys.secretsLeft));
      return Object.fromEntries(left.map(([id, count]) => [id, Number(count)]));
    },
    async setLeft(left) {
      if (left.size > 0) await redis.hset(keys.secretsLeft, left);
    },
    async retireOthers(current) {
      const three = [keys.masterKeys, keys.keyHolders, keys.secretsLeft];
      return (await redis.eval(retire, 3, ...three, current)) === 1;
    },
  };
}
