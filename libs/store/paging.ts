import type { RedisClient } from './redis.ts';

export interface Page {
  ids: string[];
  /** Where the next page begins; null at the end. */
  cursor: string | null;
}

/**
 * A page of a sorted set, highest score first. The cursor is `<score>.<id>` of the last row, so that rows that come or go between two
 * pages neither hide nor repeat others. An unknown cursor answers from its score on.
 */
export async function pageOf(
  redis: RedisClient,
  index: string,
  cursor: string | undefined,
  limit: number,
): Promise<Page> {
  const [, score = '', lastId = ''] = /^(\d+)\.(.+)$/.exec(cursor ?? '') ?? [];
  // With one row beyond the page, which tells that there is a next one.
  const rows = await redis.pageAfter(index, String(limit + 1), score, lastId);
  const ids = rows.filter((_, at) => at % 2 === 0);
  const page = ids.slice(0, limit);
  return { ids: page, cursor: ids.length > limit ? `${rows[2 * limit - 1]}.${page.at(-1)}` : null };
}
