/** The last of those who wait, by what they wait for. */
const tails = new Map<string, Promise<void>>();

/** Runs work of this process under one key one after the other, in the order in which it came. A failure keeps nobody from their turn. */
export async function inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
  const before = tails.get(key) ?? Promise.resolve();
  const mine = before.then(work);
  const over = mine.then(
    () => undefined,
    () => undefined,
  );
  tails.set(key, over);
  try {
    return await mine;
  } finally {
    if (tails.get(key) === over) tails.delete(key);
  }
}
