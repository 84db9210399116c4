import { createHash } from 'node:crypto';

/** Chance that a seed decides: the same seed and purpose throw the same. */
export interface Dice {
  /** In [0, 1). */
  next(): number;
  /** A number from `least` to below `most`. */
  between(least: number, most: number): number;
  chance(probability: number): boolean;
  pick<T>(items: readonly T[]): T;
}

/** Each purpose has dice of its own, so that what happens first in one place changes nothing in another. */
export function diceOf(seed: number, ...purpose: (string | number)[]): Dice {
  let state = createHash('sha256')
    .update([seed, ...purpose].join(' '))
    .digest()
    .readUInt32LE();
  // mulberry32
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    between: (least, most) => least + next() * (most - least),
    chance: (probability) => next() < probability,
    pick(items) {
      const item = items[Math.floor(next() * items.length)];
      if (item === undefined) throw new Error('there is nothing to pick from');
      return item;
    },
  };
}
