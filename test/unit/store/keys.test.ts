import { describe, expect, it } from 'vitest';
import { createKeys } from '#libs/store/keys';

const named = Object.entries(createKeys('certline')).map(([name, key]: [string, string | ((id: string) => string)]) => {
  return [name, typeof key === 'string' ? key : key('x')] as const;
});

describe('the names of keys in Redis', () => {
  it('have the hash tag of their namespace, so that one script may touch them all in a cluster', () => {
    expect(named.filter(([, key]) => !key.startsWith('{certline}')).map(([name]) => name)).toEqual([]);
    expect(createKeys('other').order('ord_1')).toBe('{other}:order:ord_1');
  });

  it('are all different', () => {
    const keys = named.map(([, key]) => key);
    expect(keys.filter((key, i) => keys.indexOf(key) !== i)).toEqual([]);
  });
});
