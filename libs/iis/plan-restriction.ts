import { bindingKey } from '../model/drift.ts';
import { parseBindingInformation, recordOf } from './binding-information.ts';
import type { PlannedChange, SkippedBinding } from './binding-plan.ts';
import type { Binding, HostState, Site } from './iis-host.ts';
import { covers, isProtocol } from './plan-scope.ts';

interface SiteBinding {
  siteId: number;
  binding: Binding;
}

function httpsBindings({ sites }: HostState): SiteBinding[] {
  return sites.flatMap(({ id, bindings }) =>
    bindings.filter((one) => isProtocol(one, 'https')).map((binding) => ({ siteId: id, binding })),
  );
}

const keyOf = ({ siteId, binding: { bindingInformation } }: SiteBinding): string =>
  bindingKey({ siteId, protocol: 'https', bindingInformation });

/**
 * Of the changes of a plan those that bring the certificate to some places (keys as of `bindingKey`), for a repair. An update of another
 * binding counts where both take their certificate from one record of http.sys: neither can have it without the other. Pure.
 */
export function changesAt(
  state: HostState,
  changes: readonly PlannedChange[],
  places: readonly string[],
): PlannedChange[] {
  const wanted = new Set(places);
  const there = httpsBindings(state).filter((one) => wanted.has(keyOf(one)));
  const records = new Set(there.map(({ binding }) => recordOf(binding)).filter((record) => record !== null));
  return changes.filter((change) => {
    if (wanted.has(bindingKey(change))) return true;
    const stays = change.op === 'update' && change.protocol === 'https' && change.expect?.sslFlags === change.sslFlags;
    return stays && records.has(recordOf(change) ?? '');
  });
}

/** Thumbprints, upper-case, of what the changes take away: at their places, and where a record of http.sys is written that others use. */
export function replacedThumbprints(state: HostState, changes: readonly PlannedChange[]): string[] {
  const places = new Set(changes.map(bindingKey));
  const records = new Set(changes.map((change) => (change.protocol === 'https' ? recordOf(change) : null)));
  records.delete(null);
  const https = httpsBindings(state).filter((one) => places.has(keyOf(one)) || records.has(recordOf(one.binding)));
  const ftp = state.sites.filter(({ id }) =>
    places.has(bindingKey({ siteId: id, protocol: 'ftp', bindingInformation: '' })),
  );
  const all = [...https.map(({ binding }) => binding.thumbprint), ...ftp.map((site) => site.ftp?.thumbprint)];
  return [...new Set(all.flatMap((one) => (one ? [one.toUpperCase()] : [])))];
}

/** Names of certificates by thumbprint, upper-case. */
export type NamesByThumbprint = ReadonlyMap<string, readonly string[]>;

function namesOf(newer: NamesByThumbprint, thumbprint: string | null): readonly string[] | undefined {
  return thumbprint === null ? undefined : newer.get(thumbprint.toUpperCase());
}

function hostOf(bindingInformation: string): string {
  return parseBindingInformation(bindingInformation)?.host ?? '';
}

/** Whether the ftp bindings of a site are well served by a newer certificate. */
function isFtpKept({ ftp, bindings }: Site, newer: NamesByThumbprint): boolean {
  const names = namesOf(newer, ftp?.thumbprint ?? null);
  if (names === undefined) return false;
  const hosts = bindings
    .filter((one) => isProtocol(one, 'ftp'))
    .map(({ bindingInformation }) => hostOf(bindingInformation));
  return hosts.every((host) => host === '' || covers(names, host));
}

/**
 * Leaves out what would take a newer certificate away: of a binding that has one which covers its host, or that has no host name, and of
 * all that shares its record of http.sys. `newer` are the certificates that count as newer. Pure.
 */
export function withoutSuperseded(
  state: HostState,
  changes: readonly PlannedChange[],
  newer: NamesByThumbprint,
): { changes: PlannedChange[]; left: SkippedBinding[] } {
  if (newer.size === 0) return { changes: [...changes], left: [] };
  const kept = httpsBindings(state).filter(({ binding }) => {
    const names = namesOf(newer, binding.thumbprint);
    const host = hostOf(binding.bindingInformation);
    return names !== undefined && (host === '' || covers(names, host));
  });
  const places = new Set(kept.map(keyOf));
  const records = new Set(kept.map(({ binding }) => recordOf(binding)));
  records.delete(null);
  for (const site of state.sites.filter((one) => isFtpKept(one, newer)))
    places.add(bindingKey({ siteId: site.id, protocol: 'ftp', bindingInformation: '' }));

  const isLeft = (change: PlannedChange): boolean => {
    if (change.op === 'remove') return false;
    return places.has(bindingKey(change)) || (change.protocol === 'https' && records.has(recordOf(change)));
  };
  const left = changes.filter(isLeft).map(({ siteId, protocol, bindingInformation }) => {
    const isOwn = places.has(bindingKey({ siteId, protocol, bindingInformation }));
    const reason = isOwn ? 'has a newer certificate' : 'shares its record of http.sys with a newer certificate';
    return { siteId, protocol, bindingInformation, reason };
  });
  return { changes: changes.filter((change) => !isLeft(change)), left };
}
