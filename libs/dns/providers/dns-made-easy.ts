import { createHmac } from 'node:crypto';
import { z } from 'zod';
import { allPages, readAnswer } from '../api-answers.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { type ApiAnswer, type ApiProblem, createHttpApi } from '../http-api.ts';
import { quoted, unquoted } from '../txt-text.ts';
import { plainName, relativeName, zoneNotManaged } from '../zone-names.ts';

const title = 'DNS Made Easy';
const addresses = {
  production: 'https://api.dnsmadeeasy.com/V2.0/',
  sandbox: 'https://api.sandbox.dnsmadeeasy.com/V2.0/',
};
const shortestTtl = 30;
/** 150 requests in a window of 5 minutes that moves on: some are free again after a while. */
const busyMs = 60_000;

const settings = z.strictObject({
  environment: z.enum(['production', 'sandbox']).default('production').describe('The sandbox has accounts of its own.'),
});
const secret = z.strictObject({
  apiKey: z.string().min(1).describe('API key of the account.'),
  secretKey: z.string().min(1).describe('Secret key of the account: signs the requests.'),
});

const domainSchema = z.object({ id: z.number(), name: z.string() });
const domainsSchema = z.object({ data: z.array(domainSchema), totalRecords: z.number().default(0) });
const recordSchema = z.object({ id: z.number(), type: z.string(), name: z.string(), value: z.string() });
const recordsSchema = z.object({ data: z.array(recordSchema), totalRecords: z.number().default(0) });
const problemSchema = z.object({ error: z.union([z.string(), z.array(z.string())]) });

const wordsOf = ({ json }: ApiAnswer): string | undefined => {
  const read = problemSchema.safeParse(json);
  return read.success ? [read.data.error].flat().join('; ') : undefined;
};

/** The limit is told by 400 and a header. */
const isTooMuch = (answer: ApiAnswer): boolean =>
  answer.status === 400 &&
  (answer.headers.get('x-dnsme-requestsremaining') === '0' || /rate limit/i.test(wordsOf(answer) ?? ''));

/**
 * Each value is a record of its own with an id. Names are relative, empty for the domain's own; values in quotation marks. Requests are signed with
 * the HMAC of their date, which may differ from the provider's clock by 30 s. https://api-docs.dnsmadeeasy.com/
 * @param where other address, for tests
 */
export async function openDnsMadeEasy(
  { environment }: z.infer<typeof settings>,
  { apiKey, secretKey }: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
  { baseUrl } = { baseUrl: addresses[environment] },
): Promise<DnsProvider> {
  function readProblem(answer: ApiAnswer): ApiProblem | undefined {
    const said = wordsOf(answer);
    const words = said === undefined ? {} : { words: said };
    if (isTooMuch(answer)) return { ...words, code: 'dns_provider_busy', notBefore: clock.now() + busyMs };
    if (answer.status !== 403) return words;
    const hint = 'the keys do not belong to this environment, or the clock of this machine is wrong by more than 30 s';
    return { words: said === undefined ? hint : `${said}: ${hint}` };
  }
  const authorize = async (): Promise<Record<string, string>> => {
    const date = new Date(clock.now()).toUTCString();
    const hmac = createHmac('sha1', secretKey).update(date).digest('hex');
    return { 'x-dnsme-apikey': apiKey, 'x-dnsme-requestdate': date, 'x-dnsme-hmac': hmac, accept: 'application/json' };
  };
  const api = createHttpApi({ title, baseUrl, clock, authorize, read: readProblem });

  /** Its documentation does not say whether the first page is 0 or 1: the list ends when all are there, or a page has nothing new. */
  async function listAll<T extends { id: number }>(
    schema: z.ZodType<{ data: T[]; totalRecords: number }>,
    path: string,
    query: Record<string, string>,
    signal: AbortSignal,
  ): Promise<T[]> {
    const seen = new Set<number>();
    return allPages<T, number>(title, async (page = 0) => {
      const search = new URLSearchParams({ ...query, page: String(page) });
      const answer = await api.send({ method: 'GET', path: `${path}?${search}` }, signal);
      const { data, totalRecords } = readAnswer(title, schema, answer);
      const items = data.filter(({ id }) => !seen.has(id));
      for (const { id } of items) seen.add(id);
      const ended = seen.size >= totalRecords || data.length === 0 || (items.length === 0 && page > 1);
      return { items, next: ended ? undefined : page + 1 };
    });
  }

  const listDomains = async (signal: AbortSignal): Promise<string[]> =>
    (await listAll(domainsSchema, 'dns/managed/', {}, signal)).map(({ name }) => plainName(name));

  async function findDomain(zone: string, signal: AbortSignal): Promise<number> {
    const path = `dns/managed/name?${new URLSearchParams({ domainname: zone })}`;
    const answer = await api.send({ method: 'GET', path, accept: [404] }, signal);
    if (answer.status === 404) throw zoneNotManaged(title, zone, await listDomains(signal));
    return readAnswer(title, domainSchema, answer).id;
  }

  async function findRecords(id: number, record: TxtRecord, signal: AbortSignal): Promise<number[]> {
    const recordName = relativeName(record, '');
    const records = await listAll(recordsSchema, `dns/managed/${id}/records`, { recordName, type: 'TXT' }, signal);
    return records
      .filter(({ type, name }) => type === 'TXT' && name.toLowerCase() === recordName)
      .filter(({ value }) => unquoted(value) === record.value)
      .map((one) => one.id);
  }

  return {
    async present(record, signal) {
      const id = await findDomain(record.zone, signal);
      if ((await findRecords(id, record, signal)).length > 0) return;
      const ttl = Math.max(ttlSeconds, shortestTtl);
      const value = quoted(record.value);
      const body = { type: 'TXT', name: relativeName(record, ''), value, ttl, gtdLocation: 'DEFAULT' };
      const accept = (answer: ApiAnswer): boolean =>
        answer.status === 400 && !isTooMuch(answer) && /already exists/i.test(wordsOf(answer) ?? '');
      await api.send({ method: 'POST', path: `dns/managed/${id}/records/`, body, accept }, signal);
    },

    async cleanUp(record, signal) {
      const id = await findDomain(record.zone, signal);
      for (const one of await findRecords(id, record, signal))
        await api.send({ method: 'DELETE', path: `dns/managed/${id}/records/${one}`, accept: [404] }, signal);
    },

    zones: listDomains,
  };
}

/** DNS Made Easy with the keys of an account. */
export const dnsMadeEasy = defineProvider({
  ...{ name: 'dns-made-easy', title },
  rights: 'API key and secret key of the account that has the domains.',
  ...{ settings, secret, open: openDnsMadeEasy },
});
