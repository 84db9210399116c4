import type { z } from 'zod';
import { CertlineError } from '../errors.ts';
import type { ApiAnswer } from './http-api.ts';

/** Far more zones or records than anybody has, in pages. */
const mostPages = 1000;

/** The body as the schema wants it. What has another form comes from something between here and the provider, or from a provider in trouble. */
export function readAnswer<T>(title: string, schema: z.ZodType<T>, { json, status }: ApiAnswer): T {
  const read = schema.safeParse(json);
  if (read.success) return read.data;
  const where = read.error.issues[0]?.path.join('.') ?? '';
  throw new CertlineError(
    'dns_provider_unreachable',
    `${title}: the answer ${status} is not of the form that its documentation says (${where === '' ? 'no JSON' : where})`,
    { evidence: { status } },
  );
}

/** A page of a list, and where the next one is. */
export interface Page<Item, Cursor> {
  items: readonly Item[];
  next?: Cursor | undefined;
}

/** All pages of a list, one after the other. */
export async function allPages<Item, Cursor>(
  title: string,
  read: (cursor: Cursor | undefined) => Promise<Page<Item, Cursor>>,
): Promise<Item[]> {
  const all: Item[] = [];
  let cursor: Cursor | undefined;
  for (let count = 0; count < mostPages; count += 1) {
    const { items, next } = await read(cursor);
    all.push(...items);
    if (next === undefined) return all;
    cursor = next;
  }
  throw new CertlineError('dns_provider_refused', `${title}: a list has no end after ${mostPages} pages`);
}
