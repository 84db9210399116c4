import { type Expectation, expectationSchema } from '../model/drift.ts';
import type { Keys } from './keys.ts';
import type { Command, RedisClient } from './redis.ts';

/** What each target should have: one expectation per place, kept from a deployment until another one changes the place. */
export interface ExpectationStore {
  /** The commands that keep expectations, whatever was expected at their places: to be done in one step with the order they are of. */
  recording(target: string, expectations: readonly Expectation[]): Command[];
  /** The commands after which nothing is expected at some places, as `recording`. */
  forgetting(target: string, places: readonly string[]): Command[];
  /** By place. What another version of certline wrote and this one cannot read is left out. */
  of(target: string): Promise<Expectation[]>;
  /** Drops expectations, those alone that are still the given ones: a deployment may have changed the place meanwhile. */
  forget(target: string, expectations: readonly Expectation[]): Promise<void>;
  /** The command that drops all of a target: to be done in one step with its deletion. */
  dropTarget(target: string): Command;
}

/** Expectations in one command: Lua hands on some thousand arguments at the most. */
const batch = 500;

// The fields that tell one recording from another; the text may have been written by another version, with more in it.
const forgetting = `local dropped = 0
for at = 1, #ARGV, 2 do
  local text = redis.call('HGET', KEYS[1], ARGV[at])
  local readable, kept = pcall(cjson.decode, text or '')
  local given = cjson.decode(ARGV[at + 1])
  local same = readable and type(kept) == 'table'
  for _, field in ipairs({'place', 'order', 'certificate', 'thumbprint', 'store', 'at'}) do
    same = same and kept[field] == given[field]
  end
  if same then dropped = dropped + redis.call('HDEL', KEYS[1], ARGV[at]) end
end
return dropped`;

function read(place: string, text: string): Expectation | null {
  try {
    const { data } = expectationSchema.safeParse(JSON.parse(text));
    return data?.place === place ? data : null;
  } catch {
    return null;
  }
}

/** Some items at a time. */
function inBatches<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / batch) }, (_, at) => items.slice(at * batch, (at + 1) * batch));
}

export function createExpectations(redis: RedisClient, keys: Pick<Keys, 'expectations'>): ExpectationStore {
  const fieldsOf = (some: readonly Expectation[]): string[] => some.flatMap((one) => [one.place, JSON.stringify(one)]);
  return {
    recording: (target, expectations) =>
      inBatches(expectations).map((some): Command => ['HSET', keys.expectations(target), ...fieldsOf(some)]),
    forgetting: (target, places) =>
      inBatches(places).map((some): Command => ['HDEL', keys.expectations(target), ...some]),
    async of(target) {
      const all = Object.entries(await redis.hgetall(keys.expectations(target)));
      const readable = all.flatMap(([place, text]) => read(place, text) ?? []);
      return readable.sort((a, b) => (a.place < b.place ? -1 : 1));
    },
    async forget(target, expectations) {
      for (const some of inBatches(expectations))
        await redis.eval(forgetting, 1, keys.expectations(target), ...fieldsOf(some));
    },
    dropTarget: (target) => ['DEL', keys.expectations(target)],
  };
}
