import { hostKey, parseBindingInformation } from '../iis/binding-information.ts';
import type { Site } from '../iis/iis-host.ts';

/** How closely the host of a binding fits a name: the longer the better; null when it does not. */
function closenessOf(host: string, name: string): number | null {
  if (host === '') return 0;
  const key = hostKey(host);
  if (key === name) return Number.POSITIVE_INFINITY;
  return key.startsWith('*.') && name.endsWith(key.slice(1)) ? key.length : null;
}

/**
 * The site that serves a name over HTTP, as http.sys chooses it: the one with the name itself in a binding, else with a wildcard above it,
 * at any depth and the nearest first, else one that answers every name (Microsoft, "UrlPrefix Strings": explicit before wildcard;
 * "Wildcard Host Header Support"). Where bindings differ in their address alone, one for all addresses goes first: which of them the name leads
 * to cannot be told here. Sites that are stopped serve nothing. Null when there is none.
 */
export function answeringSite(sites: readonly Site[], name: string, port: number): number | null {
  const found = sites
    .filter(({ state }) => state !== 'Stopped')
    .flatMap(({ id, bindings }) =>
      bindings
        .filter(({ protocol }) => protocol === 'http')
        .flatMap(({ bindingInformation }) => {
          const address = parseBindingInformation(bindingInformation);
          if (address?.port !== port) return [];
          const closeness = closenessOf(address.host, name);
          return closeness === null ? [] : [{ id, closeness, everywhere: address.ip === '*' }];
        }),
    )
    .toSorted(
      (a, b) =>
        Number(b.closeness > a.closeness) - Number(b.closeness < a.closeness) ||
        Number(b.everywhere) - Number(a.everywhere) ||
        a.id - b.id,
    );
  return found[0]?.id ?? null;
}
