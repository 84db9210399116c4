/** Stands in for GoDaddy's domains API v1: https://developer.godaddy.com/doc/endpoint/domains */
import {
  absolute,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  startStandIn,
  type World,
} from './stand-in.ts';

export const godaddyKey = 'dKD-key-of-godaddy';
export const godaddySecret = 'secret-of-godaddy';
/** Far smaller than the real one's. */
const pageSize = 3;

export const godaddyError = (status: number, code: string, message: string, more: object = {}): StandInAnswer => ({
  status,
  body: { code, message, ...more },
});

interface Row {
  type?: string;
  name?: string;
  data?: unknown;
  ttl?: number;
}

function problemWith(rows: readonly Row[]): StandInAnswer | null {
  if (rows.length === 0)
    return godaddyError(422, 'INVALID_BODY', 'Request body doesn’t fulfill schema: records is empty');
  const bad = rows.some(({ data }) => typeof data !== 'string' || data.includes('"'));
  if (bad) return godaddyError(422, 'INVALID_BODY', 'data is not valid');
  const short = rows.some(({ ttl = 3600 }) => ttl < 600);
  return short ? godaddyError(422, 'INVALID_BODY', 'ttl must have a minimum value of 600') : null;
}

function answer({ method, url, headers, body }: StandInRequest, world: World): StandInAnswer {
  if (headers.authorization !== `sso-key ${godaddyKey}:${godaddySecret}`)
    return godaddyError(401, 'UNABLE_TO_AUTHENTICATE', 'Unauthorized : Could not authenticate API key/secret');
  const [, domain, , relative] = /^\/domains(?:\/([^/]+)\/records(\/TXT\/([^/]+))?)?$/.exec(url.pathname) ?? [];
  if (domain === undefined) {
    const marker = url.searchParams.get('marker') ?? '';
    const sorted = world.zones.map(({ name }) => name).sort();
    const from = marker === '' ? 0 : sorted.indexOf(marker) + 1;
    return {
      status: 200,
      body: sorted.slice(from, from + pageSize).map((name) => ({ domain: name, status: 'ACTIVE' })),
    };
  }
  const zone = world.zones.find(({ name }) => name === domain);
  if (zone === undefined)
    return godaddyError(404, 'UNKNOWN_DOMAIN', 'The given domain is not registered, or does not have a zone file');
  const rows = (): Row[] => JSON.parse(body) as Row[];
  if (method === 'PATCH' && relative === undefined) {
    const problem = problemWith(rows());
    if (problem !== null) return problem;
    for (const { name = '', data } of rows())
      if (zone.records.some((one) => one.name === absolute(zone, name, '@') && one.value === data))
        return godaddyError(422, 'DUPLICATE_RECORD', 'Another record with the same attributes already exists');
    for (const { name = '', data, ttl } of rows()) world.add(zone, absolute(zone, name, '@'), String(data), ttl);
    return { status: 200 };
  }
  const name = absolute(zone, decodeURIComponent(relative ?? ''), '@');
  if (method === 'GET') {
    const found = world.seen(zone).filter((one) => one.name === name);
    return { status: 200, body: found.map(({ value, ttl }) => ({ type: 'TXT', name: relative, data: value, ttl })) };
  }
  const mine = zone.records.filter((one) => one.name === name);
  const rest = zone.records.filter((one) => one.name !== name);
  if (method === 'DELETE') {
    if (mine.length === 0) return godaddyError(404, 'NOT_FOUND', 'No record found to delete');
    zone.records.splice(0, zone.records.length, ...rest);
    return { status: 204 };
  }
  if (method !== 'PUT') return godaddyError(405, 'METHOD_NOT_ALLOWED', method);
  const problem = problemWith(rows());
  if (problem !== null) return problem;
  zone.records.splice(0, zone.records.length, ...rest);
  for (const { data, ttl } of rows()) world.add(zone, name, String(data), ttl);
  return { status: 200 };
}

export const startGodaddy = (): Promise<StandIn> => startStandIn(answer);
