import { z } from 'zod';
import { allPages, readAnswer } from '../api-answers.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { type ApiAnswer, type ApiProblem, createHttpApi } from '../http-api.ts';
import { plainName, relativeName, zoneNotManaged } from '../zone-names.ts';

const title = 'DigitalOcean';
const address = 'https://api.digitalocean.com/v2/';
const shortestTtl = 30;

const settings = z.strictObject({});
const secret = z.strictObject({
  apiToken: z.string().min(1).describe('Personal access token with the scope domain (read, create, delete).'),
});

const linksSchema = z.object({ pages: z.object({ next: z.string().optional() }).optional() }).optional();
const domainsSchema = z.object({ domains: z.array(z.object({ name: z.string() })), links: linksSchema });
const recordSchema = z.object({ id: z.number(), type: z.string(), name: z.string(), data: z.string() });
const recordsSchema = z.object({ domain_records: z.array(recordSchema), links: linksSchema });
const problemSchema = z.object({ id: z.string(), message: z.string() });

function readProblem({ json, headers }: ApiAnswer): ApiProblem | undefined {
  const read = problemSchema.safeParse(json);
  // the hourly limit has no Retry-After, only when the oldest request is an hour old: seconds since the epoch
  const reset = Number(headers.get('ratelimit-reset') ?? Number.NaN);
  return {
    ...(read.success ? { words: `${read.data.id}: ${read.data.message}` } : {}),
    ...(reset > 0 ? { notBefore: reset * 1000 } : {}),
  };
}

/** The number of the next page, read out of its address: only the number is used. */
function nextPage(links: z.infer<typeof linksSchema>): number | undefined {
  const next = links?.pages?.next;
  const page = next === undefined ? Number.NaN : Number(new URL(next, address).searchParams.get('page'));
  return page > 0 ? page : undefined;
}

/**
 * Each value is a record of its own with an id. The same value can be there twice: all of them are taken away. New records have relative names, `@`
 * for the domain's own; the list is filtered by absolute ones. https://docs.digitalocean.com/products/networking/dns/reference/api/domain-records/
 * @param where other address, for tests
 */
export async function openDigitalocean(
  _: z.infer<typeof settings>,
  { apiToken }: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
  { baseUrl } = { baseUrl: address },
): Promise<DnsProvider> {
  const authorize = async (): Promise<Record<string, string>> => ({ authorization: `Bearer ${apiToken}` });
  const api = createHttpApi({ title, baseUrl, clock, authorize, read: readProblem });

  function listDomains(signal: AbortSignal): Promise<string[]> {
    return allPages<string, number>(title, async (page = 1) => {
      const answer = await api.send({ method: 'GET', path: `domains?per_page=200&page=${page}` }, signal);
      const { domains, links } = readAnswer(title, domainsSchema, answer);
      return { items: domains.map(({ name }) => plainName(name)), next: nextPage(links) };
    });
  }

  async function findRecords(record: TxtRecord, signal: AbortSignal): Promise<number[]> {
    const { zone, name, value } = record;
    const records = await allPages<z.infer<typeof recordSchema>, number>(title, async (page = 1) => {
      const query = new URLSearchParams({ type: 'TXT', name, per_page: '200', page: String(page) });
      const path = `domains/${zone}/records?${query}`;
      const answer = await api.send({ method: 'GET', path, accept: [404] }, signal);
      if (answer.status === 404) throw zoneNotManaged(title, zone, await listDomains(signal));
      const { domain_records: items, links } = readAnswer(title, recordsSchema, answer);
      return { items, next: nextPage(links) };
    });
    const relative = relativeName(record, '@');
    return records
      .filter((one) => one.type === 'TXT' && one.name.toLowerCase() === relative && one.data === value)
      .map(({ id }) => id);
  }

  return {
    async present(record, signal) {
      if ((await findRecords(record, signal)).length > 0) return;
      const ttl = Math.max(ttlSeconds, shortestTtl);
      const body = { type: 'TXT', name: relativeName(record, '@'), data: record.value, ttl };
      await api.send({ method: 'POST', path: `domains/${record.zone}/records`, body }, signal);
    },

    async cleanUp(record, signal) {
      for (const id of await findRecords(record, signal))
        await api.send({ method: 'DELETE', path: `domains/${record.zone}/records/${id}`, accept: [404] }, signal);
    },

    zones: listDomains,
  };
}

/** DigitalOcean with a personal access token. */
export const digitalocean = defineProvider({
  ...{ name: 'digitalocean', title },
  // https://docs.digitalocean.com/reference/api/scopes/
  rights: 'A personal access token with the scopes `domain:read`, `domain:create` and `domain:delete`.',
  ...{ settings, secret, open: openDigitalocean },
});
