import type { Redis } from 'ioredis';

export interface Page {
  ids: string[];
  /** Where the next page begins; null at the end. */
  cursor: string | null;
}

/**
 * A page of a sorted set, highest score first. The cursor is `<score>.<id>` of the last row, so that rows that come or go between two
 * pages neither hide nor repeat others. An unknown cursor answers from its score on.
 */
export async function pageOf(redis: Redis, index: string, cursor: string | undefined, limit: number): Promise<Page> {
  const [, score, lastId] = /^(\d+)\.(.+)$/.exec(cursor ?? '') ?? [];
  const rows: { id: string; score: string }[] = [];
  // Rows of the cursor's own score come again: more are read than asked for, until the page and one row beyond it are there.
  for (let offset = 0; rows.length <= limit; ) {
    const chunk = await redis.zrevrangebyscore(
      index,
      score ?? '+inf',
      '-inf',
      'WITHSCORES',
      'LIMIT',
      offset,
      limit + 1,
    );
    for (let i = 0; i + 1 < chunk.length; i += 2) {
      const row = { id: chunk[i] ?? '', score: chunk[i + 1] ?? '' };
      const seen = lastId !== undefined && row.score === score && row.id >= lastId;
      if (!seen) rows.push(row);
    }
    if (chunk.length < 2 * (limit + 1)) break;
    offset += limit + 1;
  }
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    ids: page.map(({ id }) => id),
    cursor: rows.length > limit && last ? `${last.score}.${last.id}` : null,
  };
}
