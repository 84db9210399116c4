import type { Page } from './paging.ts';
import type { RedisClient } from './redis.ts';

export interface PageFilter {
  /** Sorted sets with the same scores: a row is meant when it is in all of them. */
  indexes: readonly string[];
  /** Scores from this one on, and before that one. */
  since?: number | undefined;
  until?: number | undefined;
}

/** Rows that are looked at in one go, and for one page at the most: no page takes much longer than another. */
const chunk = 500;
const mostLooks = 5_000;

/** Before every id: a row that nothing of the same score comes after. */
const lowest = ' ';

interface Row {
  id: string;
  score: string;
}

async function rowsAfter(redis: RedisClient, index: string, { id, score }: Row, count: number): Promise<Row[]> {
  const found = await redis.pageAfter(index, String(count), score, id);
  return Array.from({ length: found.length / 2 }, (_, at) => ({
    id: found[2 * at] ?? '',
    score: found[2 * at + 1] ?? '',
  }));
}

/** The rows that are in all of the indexes. */
async function inAll(redis: RedisClient, indexes: readonly string[], rows: Row[]): Promise<Row[]> {
  if (rows.length === 0) return rows;
  const ids = rows.map(({ id }) => id);
  const scores = await Promise.all(indexes.map((index) => redis.zmscore(index, ...ids)));
  return rows.filter((_, at) => scores.every((ofIndex) => ofIndex[at] !== null));
}

/** The smallest first: what is in it is looked for in the others. */
async function bySize(redis: RedisClient, indexes: readonly string[]): Promise<string[]> {
  if (indexes.length === 1) return [...indexes];
  const sizes = await Promise.all(indexes.map((index) => redis.zcard(index)));
  return indexes
    .map((index, at) => ({ index, size: sizes[at] ?? 0 }))
    .toSorted((a, b) => a.size - b.size)
    .map(({ index }) => index);
}

/**
 * As `pageOf`, of what several indexes have in common. With more than one a page may have fewer rows than `limit`, or none, while there are more:
 * the end is a cursor that is null.
 */
export async function filteredPage(
  redis: RedisClient,
  { indexes, since = Number.NEGATIVE_INFINITY, until }: PageFilter,
  cursor: string | undefined,
  limit: number,
): Promise<Page> {
  const [smallest = '', ...others] = await bySize(redis, indexes);
  const [, score = '', id = ''] = /^(\d+)\.(.+)$/.exec(cursor ?? '') ?? [];
  let last: Row = { id, score };
  if (until !== undefined && (score === '' || Number(score) >= until)) last = { id: lowest, score: String(until) };
  const page: Row[] = [];
  for (let looked = 0; looked < mostLooks; ) {
    const size = others.length === 0 ? limit + 1 : chunk;
    const rows = await rowsAfter(redis, smallest, last, size);
    const inTime = rows.filter((row) => Number(row.score) >= since);
    page.push(...(await inAll(redis, others, inTime)));
    if (page.length > limit) {
      const end = page[limit - 1];
      return { ids: page.slice(0, limit).map((row) => row.id), cursor: `${end?.score}.${end?.id}` };
    }
    if (inTime.length < size) return { ids: page.map((row) => row.id), cursor: null };
    last = inTime.at(-1) ?? last;
    looked += size;
  }
  return { ids: page.map((row) => row.id), cursor: `${last.score}.${last.id}` };
}
