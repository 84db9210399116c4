/**
 * Does `work` for all items, `limit` of them at a time; the answers are in the order of the items. Ends with the first that throws: what is under
 * way then comes to its end, and nothing else is begun.
 */
export async function sideBySide<T, R>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const answers: R[] = [];
  const waiting = items.entries();
  let isOver = false;
  // All of them take from one iterator: whoever is free takes the next item.
  const worker = async (): Promise<void> => {
    for (const [at, item] of waiting) {
      if (isOver) return;
      try {
        answers[at] = await work(item);
      } catch (error) {
        isOver = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return answers;
}
