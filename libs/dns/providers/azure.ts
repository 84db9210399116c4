import { z } from 'zod';
import { CertlineError } from '../../errors.ts';
import { allPages, readAnswer } from '../api-answers.ts';
import { azureClouds, halfPrincipal, identityTokens, principalTokens } from '../azure-sign-in.ts';
import { type DnsProvider, defineProvider, type ProviderDeps, type TxtRecord } from '../dns-provider.ts';
import { type ApiAnswer, type ApiProblem, createHttpApi } from '../http-api.ts';
import { type TokenKeeper, withFreshToken } from '../oauth.ts';
import { addValue, type RecordSetApi, removeValue } from '../record-sets.ts';
import { stringsOf } from '../txt-text.ts';
import { plainName, relativeName, zoneAmbiguous, zoneNotManaged } from '../zone-names.ts';

const title = 'Azure DNS';
const metadataService = 'http://169.254.169.254/';
const version = 'api-version=2018-05-01';

const uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'is not a UUID');
const settings = z.strictObject({
  subscriptionId: uuid.describe('ID of the subscription with the DNS zones.'),
  resourceGroup: z
    .string()
    .regex(/^[-\w.()]{1,90}$/, 'is not the name of a resource group')
    .optional()
    .describe('Resource group of the zones; left out, all groups of the subscription are looked at.'),
  tenantId: z
    .string()
    .regex(/^[-\w.]+$/, 'is not a tenant: a UUID or a domain')
    .optional()
    .describe('Tenant (directory) of the service principal; left out for a managed identity.'),
  clientId: uuid
    .optional()
    .describe(
      'Client (application) ID of the service principal, or of a user-assigned managed identity; left out for the machine’s own identity.',
    ),
  cloud: z.enum(['public', 'usGovernment', 'china']).default('public').describe('Which of Azure’s clouds.'),
});
const secret = z.strictObject({
  clientSecret: z
    .string()
    .min(1)
    .optional()
    .describe('Client secret of the service principal; left out for a managed identity.'),
});

const zoneSchema = z.object({
  id: z.string(),
  name: z.string(),
  properties: z.object({ zoneType: z.string().optional() }).optional(),
});
type AzureZone = z.infer<typeof zoneSchema>;
const zonesSchema = z.object({ value: z.array(zoneSchema), nextLink: z.string().nullish() });
// Its own fields may come in other cases.
const txtSchema = z.object({ value: z.array(z.string()) });
const recordSetSchema = z.object({
  etag: z.string(),
  properties: z.looseObject({
    TTL: z.number(),
    TXTRecords: z.array(txtSchema).optional(),
    metadata: z.record(z.string(), z.string()).optional(),
  }),
});
type Txt = z.infer<typeof txtSchema>;

/** A record set as it was read: null when there was none. */
type OldSet = { etag: string; ttl: number; metadata: Record<string, string> | undefined } | null;

const problemSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) });
// The DNS service itself leaves the envelope away.
const bareProblemSchema = z.object({ code: z.string(), message: z.string() });

function problemOf({ json }: ApiAnswer): { code: string; message: string } | null {
  const read = problemSchema.safeParse(json);
  if (read.success) return read.data.error;
  const bare = bareProblemSchema.safeParse(json);
  return bare.success ? bare.data : null;
}

function readProblem(answer: ApiAnswer): ApiProblem | undefined {
  const problem = problemOf(answer);
  if (problem === null) return undefined;
  const words = `${problem.code}: ${problem.message}`;
  if (problem.code === 'SubscriptionNotFound' || problem.code === 'ResourceGroupNotFound')
    return { code: 'dns_zone_not_managed', words };
  return { words };
}

const isPublic = ({ properties }: AzureZone): boolean => properties?.zoneType !== 'Private';

/**
 * A record set is written as a whole, on the condition that its ETag is still the one that was read (If-Match), or that there is none
 * (If-None-Match: *). Names are relative, `@` for the zone's own; values have no quotation marks and are lists of strings.
 * https://learn.microsoft.com/en-us/rest/api/dns/record-sets/create-or-update
 * @param addresses others, for tests
 */
export async function openAzure(
  given: z.infer<typeof settings>,
  { clientSecret }: z.infer<typeof secret>,
  { clock, ttlSeconds }: ProviderDeps,
  addresses: { signIn?: string; management?: string; metadata?: string } = {},
): Promise<DnsProvider> {
  const { subscriptionId, resourceGroup, tenantId, clientId, cloud } = given;
  const audience = azureClouds[cloud].management;
  const { signIn, management, metadata } = { ...azureClouds[cloud], metadata: metadataService, ...addresses };

  function tokens(): TokenKeeper {
    if (tenantId === undefined && clientSecret === undefined)
      return identityTokens(clock, clientId, metadata, audience);
    if (tenantId === undefined || clientId === undefined || clientSecret === undefined) throw halfPrincipal();
    return principalTokens(clock, { tenantId, clientId, clientSecret }, signIn, audience);
  }
  const keeper = tokens();
  const authorize = async (_: unknown, signal: AbortSignal): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await keeper.token(signal)}`,
  });
  const api = withFreshToken(
    createHttpApi({ title, baseUrl: management, clock, authorize, read: readProblem }),
    keeper,
  );
  const group = resourceGroup === undefined ? '' : `/resourceGroups/${resourceGroup}`;
  const zonesPath = `subscriptions/${subscriptionId}${group}/providers/Microsoft.Network/dnsZones`;

  async function listZones(signal: AbortSignal): Promise<AzureZone[]> {
    const all = await allPages<AzureZone, string>(title, async (path = `${zonesPath}?${version}`) => {
      const { value, nextLink } = readAnswer(title, zonesSchema, await api.send({ method: 'GET', path }, signal));
      // the token must go nowhere else
      if (nextLink && new URL(nextLink, management).origin !== new URL(management).origin)
        throw new CertlineError('dns_provider_refused', `${title}: the next page of zones is on another server`);
      return { items: value, next: nextLink || undefined };
    });
    return all.filter(isPublic);
  }

  /** The right to one zone alone does not include the right to list the group: then null. */
  async function seenZones(signal: AbortSignal): Promise<AzureZone[] | null> {
    try {
      return await listZones(signal);
    } catch (thrown) {
      const isForbidden = thrown instanceof CertlineError && thrown.evidence?.status === 403;
      if (resourceGroup !== undefined && isForbidden) return null;
      throw thrown;
    }
  }

  async function findZone(zone: string, signal: AbortSignal): Promise<string> {
    if (resourceGroup !== undefined) {
      const answer = await api.send({ method: 'GET', path: `${zonesPath}/${zone}?${version}`, accept: [404] }, signal);
      if (answer.status === 200) {
        const found = readAnswer(title, zoneSchema, answer);
        if (isPublic(found)) return found.id;
      }
    }
    const seen = await seenZones(signal);
    const [first, ...others] = seen?.filter(({ name }) => plainName(name) === zone) ?? [];
    if (first === undefined) throw zoneNotManaged(title, zone, seen?.map(({ name }) => plainName(name)) ?? null);
    const groups = [first, ...others].map(({ id }) => /\/resourceGroups\/([^/]+)/i.exec(id)?.[1] ?? id);
    if (others.length > 0) throw zoneAmbiguous(title, zone, groups, 'settings.resourceGroup');
    return first.id;
  }

  async function recordSet(record: TxtRecord, signal: AbortSignal): Promise<RecordSetApi<Txt, OldSet>> {
    const zonePath = (await findZone(record.zone, signal)).replace(/^\//, '');
    const path = `${zonePath}/TXT/${encodeURIComponent(relativeName(record, '@'))}?${version}`;
    return {
      ...{ what: `${title}: ${record.name}`, clock },
      valueOf: ({ value }) => value.join(''),
      itemOf: (value) => ({ value: stringsOf(value) }),
      async read() {
        const answer = await api.send({ method: 'GET', path, accept: [404] }, signal);
        if (answer.status === 404) return { items: [], version: null };
        const { etag, properties } = readAnswer(title, recordSetSchema, answer);
        const { TTL: ttl, metadata, TXTRecords: items = [] } = properties;
        return { items, version: { etag, ttl, metadata } };
      },
      async write(items, old) {
        const headers: Record<string, string> = old === null ? { 'if-none-match': '*' } : { 'if-match': old.etag };
        if (items.length === 0) {
          const answer = await api.send({ method: 'DELETE', path, headers, accept: [404, 412] }, signal);
          return answer.status !== 412;
        }
        const properties = {
          ...{ TTL: old?.ttl ?? ttlSeconds, TXTRecords: items },
          ...(old?.metadata === undefined ? {} : { metadata: old.metadata }),
        };
        const answer = await api.send(
          { method: 'PUT', path, headers, body: { properties }, accept: [409, 412] },
          signal,
        );
        return answer.status < 300;
      },
    };
  }

  return {
    present: async (record, signal) => addValue(await recordSet(record, signal), record.value, signal),
    cleanUp: async (record, signal) => removeValue(await recordSet(record, signal), record.value, signal),
    zones: async (signal) => (await seenZones(signal))?.map(({ name }) => plainName(name)) ?? null,
  };
}

/** Azure DNS with a service principal or the managed identity of the machine. */
export const azure = defineProvider({
  ...{ name: 'azure', title },
  // https://learn.microsoft.com/en-us/azure/dns/dns-protect-zones-recordsets
  rights:
    'The role DNS Zone Contributor at the zone or its resource group; or a role with `Microsoft.Network/dnsZones/read` and `Microsoft.Network/dnsZones/TXT/*`.',
  ...{ settings, secret, open: openAzure },
});
