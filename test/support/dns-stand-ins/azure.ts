/**
 * Stands in for Azure DNS (https://learn.microsoft.com/en-us/rest/api/dns/record-sets, API version 2018-05-01), for the sign-in of Entra
 * (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow) and for the metadata service of a machine
 * (https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token), at one address.
 */
import { createHash } from 'node:crypto';
import {
  absolute,
  pageOf,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  type StandInZone,
  startStandIn,
  type World,
} from './stand-in.ts';

export const subscriptionId = '11111111-2222-3333-4444-555555555555';
export const tenantId = '66666666-7777-8888-9999-000000000000';
export const clientId = 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee';
export const clientSecret = 'kT8~client-secret-of-azure';
/** Far smaller than the real one's. */
const pageSize = 3;

export interface AzureStandIn extends StandIn {
  /** The tokens that were given out are refused from now on. */
  revoke(): void;
}

export const azureError = (status: number, code: string, message: string): StandInAnswer => ({
  status,
  body: { error: { code, message } },
});
const groupOf = ({ id }: StandInZone): string => `rg-${id}`.toLowerCase();
const idOf = (zone: StandInZone): string =>
  `/subscriptions/${subscriptionId}/resourceGroups/${groupOf(zone)}/providers/Microsoft.Network/dnszones/${zone.name}`;
const zoneJson = (zone: StandInZone): object => ({
  ...{ id: idOf(zone), name: zone.name, type: 'Microsoft.Network/dnszones', location: 'global', etag: '1' },
  properties: { zoneType: zone.isPrivate ? 'Private' : 'Public' },
});

function etagOf(zone: StandInZone, name: string): string {
  const mine = zone.records.filter((one) => one.name === name);
  return createHash('sha1').update(JSON.stringify(mine)).digest('hex');
}

function recordSet(request: StandInRequest, zone: StandInZone, relative: string, world: World): StandInAnswer {
  const { method, headers, body } = request;
  const name = absolute(zone, relative, '@');
  const mine = zone.records.filter((one) => one.name === name);
  const missing = azureError(
    404,
    'NotFound',
    `The resource record '${relative}' does not exist in zone '${zone.name}'.`,
  );
  const shown = (all: typeof mine): object => ({
    ...{ id: `${idOf(zone)}/TXT/${relative}`, name: relative, etag: etagOf({ ...zone, records: all }, name) },
    properties: {
      metadata: { owner: 'ops' },
      fqdn: `${name}.`,
      TTL: all[0]?.ttl,
      TXTRecords: all.map(({ value }) => ({ value: [value] })),
    },
  });
  if (method === 'GET') {
    const seen = world.seen(zone).filter((one) => one.name === name);
    return seen.length === 0 ? missing : { status: 200, body: shown(seen) };
  }
  const changed = azureError(412, 'PreconditionFailed', "The condition '[Etag]' in the header was not satisfied.");
  const match = headers['if-match'];
  if (match !== undefined && (mine.length === 0 || match !== etagOf(zone, name))) return changed;
  if (headers['if-none-match'] === '*' && mine.length > 0) return changed;
  if (match === undefined && headers['if-none-match'] === undefined)
    return azureError(400, 'StandIn', 'a change without a condition can lose the values of others');
  zone.records = zone.records.filter((one) => one.name !== name);
  if (method === 'DELETE') return { status: mine.length > 0 ? 200 : 204 };
  const { properties } = JSON.parse(body) as {
    properties: { TTL: number; TXTRecords: { value: string[] }[]; metadata?: object };
  };
  if (mine.length > 0 && JSON.stringify(properties.metadata) !== '{"owner":"ops"}')
    return azureError(400, 'StandIn', 'the metadata of the record set was lost');
  for (const { value } of properties.TXTRecords) {
    if (value.some((one) => one.length > 255 || one.includes('"')))
      return azureError(400, 'BadRequest', 'The TXT record is not valid');
    world.add(zone, name, value.join(''), properties.TTL);
  }
  return { status: mine.length > 0 ? 200 : 201, body: shown(zone.records.filter((one) => one.name === name)) };
}

export async function startAzure(): Promise<AzureStandIn> {
  let issued = 0;
  let good = new Set<string>();
  const token = (life: number | string): StandInAnswer => {
    issued += 1;
    good.add(`token-${issued}`);
    return { status: 200, body: { token_type: 'Bearer', expires_in: life, access_token: `token-${issued}` } };
  };

  function signIn({ url, body }: StandInRequest): StandInAnswer {
    const form = new URLSearchParams(body);
    const refuse = (status: number, error: string, error_description: string): StandInAnswer => ({
      status,
      body: { error, error_description: `${error_description}\r\nTrace ID: 1\r\nTimestamp: 2026-01-01` },
    });
    if (url.pathname !== `/${tenantId}/oauth2/v2.0/token`)
      return refuse(400, 'invalid_request', 'AADSTS90002: Tenant not found.');
    if (form.get('client_id') !== clientId)
      return refuse(400, 'unauthorized_client', 'AADSTS700016: Application not found.');
    if (form.get('client_secret') !== clientSecret)
      return refuse(401, 'invalid_client', 'AADSTS7000215: Invalid client secret provided.');
    if (
      form.get('scope') !== 'https://management.azure.com/.default' ||
      form.get('grant_type') !== 'client_credentials'
    )
      return refuse(400, 'invalid_scope', 'AADSTS1002012: The scope is not valid.');
    return token(3599);
  }

  function metadata({ url, headers }: StandInRequest): StandInAnswer {
    const query = url.searchParams;
    if (
      headers.metadata !== 'true' ||
      query.get('api-version') !== '2018-02-01' ||
      query.get('resource') !== 'https://management.azure.com/'
    )
      return {
        status: 400,
        body: { error: 'invalid_request', error_description: 'Required metadata header not specified' },
      };
    const wanted = query.get('client_id');
    if (wanted !== null && wanted !== clientId)
      return { status: 400, body: { error: 'invalid_request', error_description: 'Identity not found' } };
    // numbers are text there
    return token('86399');
  }

  function answer(request: StandInRequest, world: World): StandInAnswer {
    const { method, url, headers } = request;
    if (url.pathname.endsWith('/oauth2/v2.0/token')) return signIn(request);
    if (url.pathname === '/metadata/identity/oauth2/token') return metadata(request);
    if (!good.has(/^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? ''))
      return azureError(401, 'InvalidAuthenticationToken', 'The access token is invalid.');
    if (url.searchParams.get('api-version') !== '2018-05-01')
      return azureError(400, 'MissingApiVersionParameter', 'no version');
    const [, subscription, group, , rest] =
      /^\/subscriptions\/([^/]+)(?:\/resourceGroups\/([^/]+))?(\/providers\/Microsoft\.Network\/dnsZones)(?:\/(.*))?$/i.exec(
        url.pathname,
      ) ?? [];
    if (subscription !== subscriptionId)
      return azureError(404, 'SubscriptionNotFound', 'The subscription could not be found.');
    const inGroup = world.zones.filter((zone) => group === undefined || groupOf(zone) === group.toLowerCase());
    if (rest === undefined) {
      const page = Number(url.searchParams.get('$skipToken') ?? '1');
      const { items, total } = pageOf(inGroup, page, pageSize);
      const next = new URL(url);
      next.searchParams.set('$skipToken', String(page + 1));
      return { status: 200, body: { value: items.map(zoneJson), ...(page < total ? { nextLink: next.href } : {}) } };
    }
    const [zoneName = '', type, relative] = rest.split('/').map(decodeURIComponent);
    const zone = group === undefined ? undefined : inGroup.find(({ name }) => name === zoneName);
    if (zone === undefined) return azureError(404, 'ResourceNotFound', `The Resource '${zoneName}' was not found.`);
    if (type === undefined) return { status: 200, body: zoneJson(zone) };
    if (type !== 'TXT' || relative === undefined) return azureError(400, 'BadRequest', `what is ${method} ${rest}?`);
    return recordSet(request, zone, relative, world);
  }

  const standIn = await startStandIn(answer, ({ method }) => method === 'PUT' || method === 'DELETE');
  return {
    ...standIn,
    revoke() {
      good = new Set();
    },
  };
}
