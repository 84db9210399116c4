import { describe, expect, it } from 'vitest';
import { sideBySide } from '#libs/side-by-side';

/** Work that ends when the test says so. */
function held() {
  const begun: { item: number; end: PromiseWithResolvers<string> }[] = [];
  const work = (item: number): Promise<string> => {
    const end = Promise.withResolvers<string>();
    begun.push({ item, end });
    return end.promise;
  };
  return { begun, work };
}
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('work side by side', () => {
  it('begins the next item when one has ended, and answers in the order of the items', async () => {
    const { begun, work } = held();
    const all = sideBySide([1, 2, 3], 2, work);
    expect(begun.map(({ item }) => item)).toEqual([1, 2]);
    begun[1]?.end.resolve('two');
    await turn();
    expect(begun.map(({ item }) => item)).toEqual([1, 2, 3]);
    begun[2]?.end.resolve('three');
    begun[0]?.end.resolve('one');
    expect(await all).toEqual(['one', 'two', 'three']);
  });

  it('begins nothing else once one has failed', async () => {
    const { begun, work } = held();
    const all = sideBySide([1, 2, 3, 4], 2, work);
    begun[0]?.end.reject(new Error('one failed'));
    await expect(all).rejects.toThrow('one failed');
    begun[1]?.end.resolve('two');
    await turn();
    expect(begun.map(({ item }) => item)).toEqual([1, 2]);
  });
});
