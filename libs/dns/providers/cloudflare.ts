import { z } from 'zod';
import { allPages, readAnswer } from '../api-answers.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { type ApiAnswer, type ApiProblem, createHttpApi } from '../http-api.ts';
import { quoted, unquoted } from '../txt-text.ts';
import { plainName, zoneAmbiguous, zoneNotManaged } from '../zone-names.ts';

const title = 'Cloudflare';
const address = 'https://api.cloudflare.com/client/v4/';
/** Shorter ones are for Enterprise zones alone. */
const shortestTtl = 60;
/** "A record with those settings already exists", "An identical record already exists". */
const alreadyThere = [81057, 81058];
/** "Record does not exist". */
const notThere = [81044];
/** Unreadable token, unknown token, no right to it. */
const badToken = [6003, 6111, 9103, 9106, 9109, 10000];

const settings = z.strictObject({
  zoneIds: z
    .record(z.string(), z.string().regex(/^[0-9a-f]{32}$/, 'is not a zone ID: 32 hexadecimal digits'))
    .optional()
    .describe('Zone IDs by the name of the zone, for a token that may not list zones. Usually left out.'),
});
const secret = z.strictObject({
  apiToken: z.string().min(1).describe('API token with the permissions Zone:Read and DNS:Edit for the zones.'),
});

const problemsSchema = z.object({
  errors: z.array(
    z.object({
      code: z.number(),
      message: z.string(),
      error_chain: z.array(z.object({ code: z.number(), message: z.string() })).optional(),
    }),
  ),
});
const pages = z.object({ page: z.number(), total_pages: z.number() });
const zonesSchema = z.object({
  result: z.array(z.object({ id: z.string(), name: z.string(), status: z.string(), type: z.string().optional() })),
  result_info: pages,
});
const recordsSchema = z.object({
  result: z.array(z.object({ id: z.string(), type: z.string(), name: z.string(), content: z.string() })),
  result_info: pages,
});

function problemsOf({ json }: ApiAnswer): { code: number; message: string }[] {
  const read = problemsSchema.safeParse(json);
  return read.success ? read.data.errors.flatMap((one) => [one, ...(one.error_chain ?? [])]) : [];
}

function readProblem(answer: ApiAnswer): ApiProblem | undefined {
  const problems = problemsOf(answer);
  if (problems.length === 0) return undefined;
  const words = problems.map(({ code, message }) => `${message} (${code})`).join('; ');
  const isToken = answer.status < 429 && problems.some(({ code }) => badToken.includes(code));
  return { words, ...(isToken ? { code: 'dns_credential_refused' as const } : {}) };
}

const hasCode = (answer: ApiAnswer, codes: readonly number[]): boolean =>
  problemsOf(answer).some(({ code }) => codes.includes(code));

/**
 * Each value is a record of its own with an id, so that nothing of others is read and written back. Names are absolute without the final dot;
 * the content is in quotation marks. https://developers.cloudflare.com/api/resources/dns/subresources/records/
 * @param where other address, for tests
 */
export async function openCloudflare(
  { zoneIds = {} }: z.infer<typeof settings>,
  { apiToken }: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
  { baseUrl } = { baseUrl: address },
): Promise<DnsProvider> {
  const authorize = async (): Promise<Record<string, string>> => ({ authorization: `Bearer ${apiToken}` });
  const api = createHttpApi({ title, baseUrl, clock, authorize, read: readProblem });

  function listZones(name: string | null, signal: AbortSignal): Promise<z.infer<typeof zonesSchema>['result']> {
    return allPages<z.infer<typeof zonesSchema>['result'][number], number>(title, async (page = 1) => {
      const query = new URLSearchParams({ ...(name === null ? {} : { name }), per_page: '50', page: String(page) });
      const answer = await api.send({ method: 'GET', path: `zones?${query}` }, signal);
      const { result, result_info: info } = readAnswer(title, zonesSchema, answer);
      // internal DNS (views) is not what the world sees
      const items = result.filter(({ type }) => type !== 'internal');
      return { items, next: info.page < info.total_pages ? info.page + 1 : undefined };
    });
  }

  async function findZone(zone: string, signal: AbortSignal): Promise<string> {
    const given = zoneIds[zone];
    if (given !== undefined) return given;
    const named = (await listZones(zone, signal)).filter(({ name }) => plainName(name) === zone);
    // a zone that moves is there twice, in two accounts: the active one is served
    const active = named.filter(({ status }) => status === 'active');
    const [first, ...others] = active.length > 0 ? active : named;
    if (first === undefined)
      throw zoneNotManaged(
        title,
        zone,
        (await listZones(null, signal)).map(({ name }) => name),
      );
    const ids = [first, ...others].map(({ id }) => id);
    if (others.length > 0) throw zoneAmbiguous(title, zone, ids, 'settings.zoneIds');
    return first.id;
  }

  async function findRecords(zoneId: string, { name, value }: TxtRecord, signal: AbortSignal): Promise<string[]> {
    const records = await allPages<z.infer<typeof recordsSchema>['result'][number], number>(title, async (page = 1) => {
      const query = new URLSearchParams({ type: 'TXT', name, per_page: '100', page: String(page) });
      const answer = await api.send({ method: 'GET', path: `zones/${zoneId}/dns_records?${query}` }, signal);
      const { result: items, result_info: info } = readAnswer(title, recordsSchema, answer);
      return { items, next: info.page < info.total_pages ? info.page + 1 : undefined };
    });
    return records
      .filter((one) => one.type === 'TXT' && plainName(one.name) === name && unquoted(one.content) === value)
      .map(({ id }) => id);
  }

  return {
    async present(record, signal) {
      const zoneId = await findZone(record.zone, signal);
      if ((await findRecords(zoneId, record, signal)).length > 0) return;
      const ttl = Math.max(ttlSeconds, shortestTtl);
      const body = { type: 'TXT', name: record.name, content: quoted(record.value), ttl };
      const accept = (answer: ApiAnswer): boolean => hasCode(answer, alreadyThere);
      await api.send({ method: 'POST', path: `zones/${zoneId}/dns_records`, body, accept }, signal);
    },

    async cleanUp(record, signal) {
      const zoneId = await findZone(record.zone, signal);
      const accept = (answer: ApiAnswer): boolean => hasCode(answer, notThere);
      for (const id of await findRecords(zoneId, record, signal))
        await api.send({ method: 'DELETE', path: `zones/${zoneId}/dns_records/${id}`, accept }, signal);
    },

    async zones(signal) {
      const names = Object.keys(zoneIds);
      if (names.length > 0) return names;
      return (await listZones(null, signal)).map(({ name }) => plainName(name));
    },
  };
}

/** Cloudflare with an API token. */
export const cloudflare = defineProvider({
  ...{ name: 'cloudflare', title },
  // https://developers.cloudflare.com/fundamentals/api/reference/permissions/
  rights:
    'An API token with Zone → DNS → Edit and Zone → Zone → Read for the zones; without the second with `zoneIds`.',
  ...{ settings, secret, open: openCloudflare },
});
