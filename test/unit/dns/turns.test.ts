import { describe, expect, it } from 'vitest';
import { inTurn } from '#libs/dns/turns';

const later = () => Promise.withResolvers<void>();

describe('work of one key', () => {
  it('is done one after the other, and that of another key meanwhile', async () => {
    const done: string[] = [];
    const first = later();
    const one = inTurn('a', async () => {
      await first.promise;
      done.push('a1');
    });
    const two = inTurn('a', async () => void done.push('a2'));
    await inTurn('b', async () => void done.push('b1'));
    expect(done).toEqual(['b1']);
    first.resolve();
    await Promise.all([one, two]);
    expect(done).toEqual(['b1', 'a1', 'a2']);
  });

  it('goes on after a failure, which only its own caller hears of', async () => {
    const failing = inTurn('c', () => Promise.reject(new Error('no')));
    const next = inTurn('c', async () => 'yes');
    await expect(failing).rejects.toThrow('no');
    expect(await next).toBe('yes');
  });
});
