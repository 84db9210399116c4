import { probeThumbprint } from '#libs/iis/handshake';
import { labStateSchema } from '#libs/iis/lab-protocol';
import { never } from '../../support/dns-providers.ts';
import type { World } from '../world.ts';
import type { EndedOrder, PlaceKind } from './kind.ts';

/** What a host is to serve at one of its sites. */
export interface Served {
  host: number;
  site: number;
  name: string;
  thumbprint: string;
}

/** Every binding is as planned and serves its certificate, and there is no other. Answers what is not so. */
export async function wrongOnHosts({ hosts }: World, served: readonly Served[]): Promise<string[]> {
  const wrong: string[] = [];
  for (const [index, { url, part }] of hosts.entries()) {
    const { sites, endpoints } = labStateSchema.parse(await (await fetch(`${url}/state`)).json());
    const https = sites.flatMap(({ id, bindings }) =>
      bindings
        .filter(({ protocol }) => protocol === 'https')
        .map((one) => `site ${id} ${one.bindingInformation} ${one.sslFlags} ${one.thumbprint}`),
    );
    const here = served.filter(({ host }) => host === index);
    const wanted = here.map(({ site, name, thumbprint }) => `site ${site} *:443:${name} 1 ${thumbprint}`);
    for (const binding of https) if (!wanted.includes(binding)) wrong.push(`${part.name} has ${binding}, not planned`);
    for (const binding of wanted) if (!https.includes(binding)) wrong.push(`${part.name} has not ${binding}`);
    const endpoint = endpoints.find(({ port }) => port === 443);
    for (const { name, thumbprint } of endpoint ? here : []) {
      const place = { host: endpoint?.host ?? '', port: endpoint?.listeningPort ?? 0 };
      const { thumbprint: seen } = await probeThumbprint(place, name, 10_000, never);
      if (seen !== thumbprint) wrong.push(`${part.name} serves ${seen} for ${name}, not ${thumbprint}`);
    }
  }
  return wrong;
}

/** What the hosts are to serve in the end: all of one that is deployed, the targets that say so of several. */
export function servedBy({ hosts }: World, { plan, order, thumbprint }: EndedOrder): Served[] {
  const { name, sites } = plan;
  if (thumbprint === null) return [];
  const isServed = (host: number): boolean =>
    order.deployments.length === 0
      ? order.status === 'deployed'
      : order.deployments.some(({ target, status }) => target === hosts[host]?.target && status === 'deployed');
  return sites.filter(({ host }) => isServed(host)).map((at) => ({ ...at, name, thumbprint }));
}

/** A site of one IIS host. */
export const site: PlaceKind = {
  share: 0.65,
  deploy({ hosts }, { sites }) {
    const [only] = sites;
    return { mode: 'site', target: hosts[only?.host ?? 0]?.target, site: only?.site };
  },
  // With those of rollouts: a host is looked at once.
  audit: async () => [],
};
