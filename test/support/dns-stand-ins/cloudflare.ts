/**
 * Stands in for Cloudflare's API v4: https://developers.cloudflare.com/api/resources/zones/methods/list/ and
 * https://developers.cloudflare.com/api/resources/dns/subresources/records/; codes of errors from
 * https://developers.cloudflare.com/api/resources/dns/ and from what it answers to people (81044, 81058, 10000, 9109).
 */
import {
  inQuotes,
  pageOf,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  startStandIn,
  type World,
} from './stand-in.ts';

export const cloudflareToken = 'v1.0-token-of-cloudflare-0123456789abcdef';
/** Far smaller than the real one's. */
const pageSize = 3;

export const cloudflareError = (status: number, code: number, message: string): StandInAnswer => ({
  status,
  body: { success: false, errors: [{ code, message }], messages: [], result: null },
});

const page = (all: readonly object[], url: URL): StandInAnswer => {
  const number = Number(url.searchParams.get('page') ?? '1');
  const { items, total } = pageOf(all, number, pageSize);
  const info = { page: number, per_page: pageSize, count: items.length, total_count: all.length, total_pages: total };
  return { status: 200, body: { success: true, errors: [], messages: [], result: items, result_info: info } };
};

function answer({ method, url, headers, body }: StandInRequest, world: World): StandInAnswer {
  const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
  if (token === undefined || !/^[\w.-]{20,}$/.test(token))
    return {
      status: 400,
      body: {
        success: false,
        errors: [
          {
            code: 6003,
            message: 'Invalid request headers',
            error_chain: [{ code: 6111, message: 'Invalid format for Authorization header' }],
          },
        ],
        result: null,
      },
    };
  if (token !== cloudflareToken) return cloudflareError(403, 9109, 'Invalid access token');
  const [, zoneId, , recordId] = /^\/zones(?:\/(\w+)\/(dns_records)(?:\/(\w+))?)?$/.exec(url.pathname) ?? [];
  if (url.pathname === '/zones' && method === 'GET') {
    const wanted = url.searchParams.get('name');
    const all = world.zones.filter(({ name }) => wanted === null || name === wanted);
    // internal zones are only listed when asked for
    return page(
      all.filter(({ isPrivate }) => !isPrivate).map(({ id, name }) => ({ id, name, status: 'active', type: 'full' })),
      url,
    );
  }
  const zone = world.zones.find(({ id }) => id === zoneId);
  if (zone === undefined)
    return cloudflareError(404, 7003, 'Could not route, perhaps your object identifier is invalid?');
  if (method === 'GET') {
    const name = url.searchParams.get('name');
    const found = world.seen(zone).filter((one) => one.name === name);
    return page(
      found.map(({ id, name, value, ttl }) => ({ id: `r${id}`, type: 'TXT', name, content: `"${value}"`, ttl })),
      url,
    );
  }
  if (method === 'POST' && recordId === undefined) {
    const { type, name, content, ttl } = JSON.parse(body);
    const value = inQuotes(content);
    if (type !== 'TXT' || value === null) return cloudflareError(400, 9207, 'Content for TXT record must be quoted');
    if (name !== zone.name && !String(name).endsWith(`.${zone.name}`))
      return cloudflareError(400, 9005, 'Not in the zone');
    if (ttl !== 1 && !(ttl >= 60 && ttl <= 86_400))
      return cloudflareError(400, 9021, 'TTL must be between 60 and 86400');
    const same = zone.records.some((one) => one.name === name && one.value === value);
    if (same) return cloudflareError(400, 81058, 'An identical record already exists.');
    return {
      status: 200,
      body: { success: true, errors: [], result: { id: `r${world.add(zone, name, value, ttl).id}` } },
    };
  }
  const at = zone.records.findIndex(({ id }) => `r${id}` === recordId);
  if (method !== 'DELETE' || at < 0) return cloudflareError(404, 81044, 'Record does not exist.');
  zone.records.splice(at, 1);
  return { status: 200, body: { success: true, errors: [], result: { id: recordId } } };
}

export const startCloudflare = (): Promise<StandIn> => startStandIn(answer);
