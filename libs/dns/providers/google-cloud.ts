import { z } from 'zod';
import { allPages, readAnswer } from '../api-answers.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { serviceAccountSchema, serviceAccountTokens } from '../google-sign-in.ts';
import { type ApiAnswer, type ApiProblem, createHttpApi } from '../http-api.ts';
import { withFreshToken } from '../oauth.ts';
import { addValue, type RecordSetApi, removeValue } from '../record-sets.ts';
import { quoted, unquoted } from '../txt-text.ts';
import { plainName, zoneAmbiguous, zoneNotManaged } from '../zone-names.ts';

const title = 'Google Cloud DNS';
const address = 'https://dns.googleapis.com/dns/v1/';

const settings = z.strictObject({
  project: z
    .string()
    .regex(/^[a-z0-9:.-]{4,100}$/, 'is not the ID of a project')
    .optional()
    .describe('Project with the zones; left out, the project of the service account.'),
  managedZones: z
    .record(z.string(), z.string().regex(/^[a-z0-9-]+$/, 'is not the name of a managed zone'))
    .optional()
    .describe(
      'Names of managed zones by the DNS name of the zone: where several public ones have one DNS name, or listing is not allowed.',
    ),
});
const secret = z.strictObject({
  serviceAccount: serviceAccountSchema.describe('The JSON key file of the service account, as it is.'),
});

const zoneSchema = z.object({
  id: z.string(),
  name: z.string(),
  dnsName: z.string(),
  visibility: z.string().optional(),
});
type ManagedZone = z.infer<typeof zoneSchema>;
const zonesSchema = z.object({ managedZones: z.array(zoneSchema).default([]), nextPageToken: z.string().optional() });
const setSchema = z.object({ name: z.string(), type: z.string(), ttl: z.number(), rrdatas: z.array(z.string()) });
const setsSchema = z.object({ rrsets: z.array(setSchema).default([]) });

const problemSchema = z.object({
  error: z.object({
    message: z.string(),
    status: z.string().optional(),
    errors: z.array(z.object({ reason: z.string().optional() })).optional(),
  }),
});
/** Come with 403 as a missing right does. https://cloud.google.com/dns/docs/error-messages */
const tooMuch = /^(rateLimitExceeded|userRateLimitExceeded|quotaExceeded|dailyLimitExceeded)$/;

function readProblem({ json, status }: ApiAnswer): ApiProblem | undefined {
  const read = problemSchema.safeParse(json);
  if (!read.success) return undefined;
  const { message, errors = [], status: name } = read.data.error;
  const reasons = errors.flatMap(({ reason }) => (reason === undefined ? [] : [reason]));
  const words = [...reasons, message].join(': ');
  const isTooMuch = reasons.some((reason) => tooMuch.test(reason)) || name === 'RESOURCE_EXHAUSTED';
  return { words, ...(isTooMuch && status < 500 ? { code: 'dns_provider_busy' as const } : {}) };
}

interface OldSet {
  ttl: number;
  rrdatas: readonly string[];
}

/**
 * A record set is written as a whole. A change deletes exactly the set that was read and adds the new one, all or nothing: Google refuses it when the
 * set is not that one any more (412, or 404 when it is gone), or there is one where none was (409). Names are absolute with the final dot, values in
 * quotation marks. https://cloud.google.com/dns/docs/reference/rest/v1/changes/create
 * @param addresses others, for tests
 */
export async function openGoogleCloud(
  { project, managedZones = {} }: z.infer<typeof settings>,
  { serviceAccount }: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
  { baseUrl, tokenUrl }: { baseUrl: string; tokenUrl?: string } = { baseUrl: address },
): Promise<DnsProvider> {
  const keeper = serviceAccountTokens(clock, serviceAccount, tokenUrl);
  const authorize = async (_: unknown, signal: AbortSignal): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await keeper.token(signal)}`,
  });
  const api = withFreshToken(createHttpApi({ title, baseUrl, clock, authorize, read: readProblem }), keeper);
  const root = `projects/${encodeURIComponent(project ?? serviceAccount.project_id)}/managedZones`;

  /** Public zones alone: private ones of the same name are not what the world sees. */
  async function listZones(dnsName: string | null, signal: AbortSignal): Promise<ManagedZone[]> {
    const all = await allPages<ManagedZone, string>(title, async (pageToken) => {
      const query = new URLSearchParams({
        ...(dnsName === null ? {} : { dnsName }),
        ...(pageToken === undefined ? {} : { pageToken }),
      });
      const answer = await api.send({ method: 'GET', path: `${root}?${query}` }, signal);
      const { managedZones: items, nextPageToken: next } = readAnswer(title, zonesSchema, answer);
      return { items, next: next || undefined };
    });
    return all.filter(({ visibility }) => visibility !== 'private');
  }

  async function findZone(zone: string, signal: AbortSignal): Promise<string> {
    const given = managedZones[zone];
    if (given !== undefined) return given;
    const named = (await listZones(`${zone}.`, signal)).filter(({ dnsName }) => plainName(dnsName) === zone);
    const [first, ...others] = named;
    if (first === undefined)
      throw zoneNotManaged(
        title,
        zone,
        (await listZones(null, signal)).map(({ dnsName }) => plainName(dnsName)),
      );
    const names = named.map(({ name }) => name);
    if (others.length > 0) throw zoneAmbiguous(title, zone, names, 'settings.managedZones');
    return first.name;
  }

  async function recordSet(
    { zone, name }: TxtRecord,
    signal: AbortSignal,
  ): Promise<RecordSetApi<string, OldSet | null>> {
    const path = `${root}/${encodeURIComponent(await findZone(zone, signal))}`;
    const set = { name: `${name}.`, type: 'TXT' };
    return {
      ...{ what: `${title}: ${name}`, clock, valueOf: unquoted, itemOf: quoted },
      async read() {
        const answer = await api.send({ method: 'GET', path: `${path}/rrsets?${new URLSearchParams(set)}` }, signal);
        const { rrsets } = readAnswer(title, setsSchema, answer);
        const found = rrsets.find((one) => plainName(one.name) === name && one.type === 'TXT');
        return { items: found?.rrdatas ?? [], version: found ?? null };
      },
      async write(items, old) {
        const body = {
          deletions: old === null ? [] : [{ ...set, ttl: old.ttl, rrdatas: old.rrdatas }],
          additions: items.length === 0 ? [] : [{ ...set, ttl: old?.ttl ?? ttlSeconds, rrdatas: items }],
        };
        // 404 is a deletion without its set; a zone that has gone is noticed by the next reading
        const accept = old === null ? [409, 412] : [404, 409, 412];
        const answer = await api.send({ method: 'POST', path: `${path}/changes`, body, accept }, signal);
        return answer.status < 300;
      },
    };
  }

  return {
    present: async (record, signal) => addValue(await recordSet(record, signal), record.value, signal),
    cleanUp: async (record, signal) => removeValue(await recordSet(record, signal), record.value, signal),
    async zones(signal) {
      const named = Object.keys(managedZones);
      if (named.length > 0) return named;
      return [...new Set((await listZones(null, signal)).map(({ dnsName }) => plainName(dnsName)))];
    },
  };
}

/** Google Cloud DNS with a service account. */
export const googleCloud = defineProvider({
  ...{ name: 'google-cloud', title },
  // https://cloud.google.com/dns/docs/access-control
  rights: 'The role DNS Administrator (`roles/dns.admin`), or one with the permissions below, in the project.',
  ...{ settings, secret, open: openGoogleCloud },
});
