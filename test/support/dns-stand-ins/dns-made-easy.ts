/**
 * Stands in for DNS Made Easy's API 2.0: https://api-docs.dnsmadeeasy.com/; what it answers beyond its limit (400, "Rate limit exceeded") is told at
 * https://github.com/acmesh-official/acme.sh/issues/3830
 */
import { createHmac } from 'node:crypto';
import type { FakeClock } from '../fake-clock.ts';
import {
  absolute,
  inQuotes,
  pageOf,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  startStandIn,
  type World,
} from './stand-in.ts';

export const dnsMadeEasyKeys = { apiKey: '1c1a3c91-4770-4ce7-96f4-54c0eb0e457a', secretKey: 'c9b5625f-secret-key' };
/** Far smaller than the real one's. */
const pageSize = 3;

export const dnsMadeEasyError = (status: number, ...error: string[]): StandInAnswer => ({ status, body: { error } });

/** @param firstPage the number of the first page, which its documentation leaves open */
export function startDnsMadeEasy(clock: FakeClock, firstPage: 0 | 1 = 0): Promise<StandIn> {
  const page = (all: readonly object[], url: URL): StandInAnswer => {
    const number = Math.max(Number(url.searchParams.get('page') ?? firstPage), firstPage);
    const { items, total } = pageOf(all, number - firstPage + 1, pageSize);
    return { status: 200, body: { totalRecords: all.length, totalPages: total, data: items, page: number } };
  };

  function isSigned({ headers }: StandInRequest): boolean {
    const date = String(headers['x-dnsme-requestdate']);
    const wanted = createHmac('sha1', dnsMadeEasyKeys.secretKey).update(date).digest('hex');
    const isDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(date);
    const isNow = Math.abs(Date.parse(date) - clock.now()) < 30_000;
    return (
      isDate && isNow && headers['x-dnsme-apikey'] === dnsMadeEasyKeys.apiKey && headers['x-dnsme-hmac'] === wanted
    );
  }

  function answer(request: StandInRequest, world: World): StandInAnswer {
    const { method, url, body } = request;
    if (!isSigned(request)) return { status: 403, body: '<html>Forbidden</html>' };
    const domainOf = ({ id, name }: World['zones'][number]): object => ({ id: Number(id.slice(1)), name });
    if (url.pathname === '/dns/managed/') return page(world.zones.map(domainOf), url);
    if (url.pathname === '/dns/managed/name') {
      const found = world.zones.find(({ name }) => name === url.searchParams.get('domainname'));
      return found === undefined ? dnsMadeEasyError(404, 'Domain not found') : { status: 200, body: domainOf(found) };
    }
    const [, zoneId, recordId] = /^\/dns\/managed\/(\d+)\/records\/?(\d+)?$/.exec(url.pathname) ?? [];
    const zone = world.zones.find(({ id }) => id === `Z${zoneId}`);
    if (zone === undefined) return dnsMadeEasyError(404, 'Domain not found');
    const relative = (name: string): string => (name === zone.name ? '' : name.slice(0, -(zone.name.length + 1)));
    if (method === 'GET') {
      const found = world.seen(zone).filter((one) => relative(one.name) === url.searchParams.get('recordName'));
      return page(
        found.map(({ id, name, value, ttl }) => ({ id, type: 'TXT', name: relative(name), value: `"${value}"`, ttl })),
        url,
      );
    }
    if (method === 'POST') {
      const { type, name, value: text, ttl, gtdLocation } = JSON.parse(body);
      const value = inQuotes(text);
      if (type !== 'TXT' || value === null || gtdLocation !== 'DEFAULT')
        return dnsMadeEasyError(400, 'Value is not valid.');
      if (!(ttl >= 30)) return dnsMadeEasyError(400, 'TTL must be at least 30.');
      const full = absolute(zone, name, '');
      if (zone.records.some((one) => one.name === full && one.value === value))
        return dnsMadeEasyError(
          400,
          `Record with this type (TXT), name (${name}), and value (${text}) already exists.`,
        );
      return { status: 201, body: { id: world.add(zone, full, value, ttl).id, type, name, value: text } };
    }
    const at = zone.records.findIndex(({ id }) => String(id) === recordId);
    if (at < 0) return dnsMadeEasyError(404, 'Record not found');
    zone.records.splice(at, 1);
    return { status: 200 };
  }

  return startStandIn(answer);
}
