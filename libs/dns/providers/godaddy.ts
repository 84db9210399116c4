import { z } from 'zod';
import { allPages, readAnswer } from '../api-answers.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { type ApiAnswer, type ApiProblem, createHttpApi } from '../http-api.ts';
import { plainName, relativeName, zoneNotManaged } from '../zone-names.ts';

const title = 'GoDaddy';
const addresses = { production: 'https://api.godaddy.com/v1/', ote: 'https://api.ote-godaddy.com/v1/' };
const shortestTtl = 600;
const pageSize = 1000;

const settings = z.strictObject({
  environment: z
    .enum(['production', 'ote'])
    .default('production')
    .describe('`ote` is the test environment, with keys of its own.'),
});
const secret = z.strictObject({
  apiKey: z.string().min(1).describe('API key, made for the same environment.'),
  apiSecret: z.string().min(1).describe('Secret of the API key.'),
});

const recordSchema = z.looseObject({ data: z.string(), ttl: z.number().optional() });
const recordsSchema = z.array(recordSchema);
type GoDaddyRecord = z.infer<typeof recordSchema>;
const domainsSchema = z.array(z.object({ domain: z.string() }));
const problemSchema = z.object({
  code: z.string(),
  message: z.string().optional(),
  retryAfterSec: z.number().optional(),
});

function problemOf({ json }: ApiAnswer): z.infer<typeof problemSchema> | null {
  const read = problemSchema.safeParse(json);
  return read.success ? read.data : null;
}

/** The last of the work on a name in this process: the next waits for it. */
const underWay = new Map<string, Promise<void>>();

async function oneAtATime(key: string, work: () => Promise<void>): Promise<void> {
  const before = underWay.get(key) ?? Promise.resolve();
  const mine = before.then(work);
  const settled = mine.catch(() => {});
  underWay.set(key, settled);
  try {
    await mine;
  } finally {
    if (underWay.get(key) === settled) underWay.delete(key);
  }
}

/**
 * Adding (PATCH) leaves the others alone. There is no removal of one value: the rest is written back (PUT), or the name's TXT records are deleted when
 * none is left, since an empty PUT is refused. The API has no ETag: what others add in the moment between reading and writing back is lost, but for
 * changes of this process, which come one after the other. Names are relative, `@` for the domain's own; values have no quotation marks.
 * https://developer.godaddy.com/doc/endpoint/domains
 * @param where other address, for tests
 */
export async function openGodaddy(
  { environment }: z.infer<typeof settings>,
  { apiKey, apiSecret }: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
  { baseUrl } = { baseUrl: addresses[environment] },
): Promise<DnsProvider> {
  function readProblem(answer: ApiAnswer): ApiProblem | undefined {
    const problem = problemOf(answer);
    if (problem === null) return undefined;
    const { code, message = '', retryAfterSec } = problem;
    const hint =
      code === 'ACCESS_DENIED'
        ? ': the key is right, but GoDaddy gives this API only to accounts with 10 domains or more or with a Discount Domain Club plan'
        : '';
    const again = retryAfterSec === undefined ? {} : { notBefore: clock.now() + retryAfterSec * 1000 };
    return { words: `${code}: ${message}${hint}`, ...again };
  }
  const authorize = async (): Promise<Record<string, string>> => ({ authorization: `sso-key ${apiKey}:${apiSecret}` });
  const api = createHttpApi({ title, baseUrl, clock, authorize, read: readProblem });

  async function listDomains(signal: AbortSignal): Promise<string[]> {
    const seen = new Set<string>();
    return allPages<string, string>(title, async (marker) => {
      const query = new URLSearchParams({
        ...{ statuses: 'ACTIVE', limit: String(pageSize) },
        ...(marker === undefined ? {} : { marker }),
      });
      const page = readAnswer(
        title,
        domainsSchema,
        await api.send({ method: 'GET', path: `domains?${query}` }, signal),
      );
      // the marker may be the first of the next page
      const items = page.map(({ domain }) => plainName(domain)).filter((name) => !seen.has(name));
      for (const name of items) seen.add(name);
      return { items, next: items.at(-1) };
    });
  }

  const pathOf = (record: TxtRecord): string =>
    `domains/${record.zone}/records/TXT/${encodeURIComponent(relativeName(record, '@'))}`;

  async function readRecords(record: TxtRecord, signal: AbortSignal): Promise<GoDaddyRecord[]> {
    const { zone } = record;
    const answer = await api.send({ method: 'GET', path: pathOf(record), accept: [404] }, signal);
    if (answer.status === 404) throw zoneNotManaged(title, zone, await listDomains(signal));
    return readAnswer(title, recordsSchema, answer);
  }

  async function add(record: TxtRecord, signal: AbortSignal): Promise<void> {
    if ((await readRecords(record, signal)).some(({ data }) => data === record.value)) return;
    const ttl = Math.max(ttlSeconds, shortestTtl);
    const body = [{ type: 'TXT', name: relativeName(record, '@'), data: record.value, ttl }];
    const accept = (answer: ApiAnswer): boolean => problemOf(answer)?.code === 'DUPLICATE_RECORD';
    await api.send({ method: 'PATCH', path: `domains/${record.zone}/records`, body, accept }, signal);
  }

  async function remove(record: TxtRecord, signal: AbortSignal): Promise<void> {
    const all = await readRecords(record, signal);
    const rest = all.filter(({ data }) => data !== record.value);
    if (rest.length === all.length) return;
    const path = pathOf(record);
    if (rest.length === 0) {
      await api.send({ method: 'DELETE', path, accept: [404] }, signal);
      return;
    }
    const body = rest.map(({ data, ttl = shortestTtl }) => ({ data, ttl: Math.max(ttl, shortestTtl) }));
    await api.send({ method: 'PUT', path, body }, signal);
  }

  const keyOf = ({ name }: TxtRecord): string => `${environment} ${name}`;
  return {
    present: (record, signal) => oneAtATime(keyOf(record), () => add(record, signal)),
    cleanUp: (record, signal) => oneAtATime(keyOf(record), () => remove(record, signal)),
    zones: listDomains,
  };
}

/** GoDaddy with an API key. */
export const godaddy = defineProvider({
  ...{ name: 'godaddy', title },
  // https://developer.godaddy.com/getstarted
  rights:
    'An API key for production; GoDaddy gives DNS by API to accounts with 10 domains or more, or its Discount Domain Club.',
  ...{ settings, secret, open: openGodaddy },
});
