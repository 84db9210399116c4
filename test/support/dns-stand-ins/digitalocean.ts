/** Stands in for DigitalOcean's API v2: https://docs.digitalocean.com/products/networking/dns/reference/api/domain-records/ */
import {
  absolute,
  pageOf,
  type StandIn,
  type StandInAnswer,
  type StandInRequest,
  startStandIn,
  type World,
} from './stand-in.ts';

export const digitaloceanToken = 'dop_v1_token-of-digitalocean';
/** Far smaller than the real one's. */
const pageSize = 3;

export const digitaloceanError = (status: number, id: string, message: string): StandInAnswer => ({
  status,
  body: { id, message },
});

function page(key: string, all: readonly object[], url: URL): StandInAnswer {
  const number = Number(url.searchParams.get('page') ?? '1');
  const { items, total } = pageOf(all, number, pageSize);
  const linkTo = (to: number): string => {
    const link = new URL(url);
    link.searchParams.set('page', String(to));
    return link.href.replace(link.origin, 'https://api.digitalocean.com');
  };
  const pages = number < total ? { pages: { next: linkTo(number + 1), last: linkTo(total) } } : {};
  return { status: 200, body: { [key]: items, links: pages, meta: { total: all.length } } };
}

function answer({ method, url, headers, body }: StandInRequest, world: World): StandInAnswer {
  if (headers.authorization !== `Bearer ${digitaloceanToken}`)
    return digitaloceanError(401, 'Unauthorized', 'Unable to authenticate you');
  const [, domain, id] = /^\/domains(?:\/([^/]+)\/records(?:\/(\d+))?)?$/.exec(url.pathname) ?? [];
  if (domain === undefined)
    return page(
      'domains',
      world.zones.map(({ name }) => ({ name, ttl: 1800, zone_file: '' })),
      url,
    );
  const zone = world.zones.find(({ name }) => name === domain);
  const missing = digitaloceanError(404, 'not_found', 'The resource you were accessing could not be found.');
  if (zone === undefined) return missing;
  const relative = (name: string): string => (name === zone.name ? '@' : name.slice(0, -(zone.name.length + 1)));
  if (method === 'GET') {
    // the filter wants absolute names, and an unknown one finds nothing
    const found = world.seen(zone).filter((one) => one.name === url.searchParams.get('name'));
    return page(
      'domain_records',
      found.map(({ id, name, value, ttl }) => ({
        id,
        type: 'TXT',
        name: relative(name),
        data: value,
        ttl,
        priority: null,
      })),
      url,
    );
  }
  if (method === 'POST') {
    const { type, name, data, ttl } = JSON.parse(body);
    if (type !== 'TXT' || typeof data !== 'string' || data.includes('"'))
      return digitaloceanError(422, 'unprocessable_entity', 'Data is invalid.');
    if (!(ttl >= 30)) return digitaloceanError(422, 'unprocessable_entity', 'Ttl must be greater than or equal to 30');
    // the same value may be there twice
    const { id } = world.add(zone, absolute(zone, name, '@'), data, ttl);
    return { status: 201, body: { domain_record: { id, type, name, data, ttl } } };
  }
  const at = zone.records.findIndex((one) => String(one.id) === id);
  if (at < 0) return missing;
  zone.records.splice(at, 1);
  return { status: 204 };
}

export const startDigitalocean = (): Promise<StandIn> => startStandIn(answer);
