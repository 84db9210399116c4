import { nameCovers } from '../model/domain-name.ts';
import {
  type BindingAddress,
  hostKey,
  httpSysRecord,
  parseBindingInformation,
  sslFlag,
} from './binding-information.ts';
import type { BindingPlanOptions, PlannedChange, SkippedBinding } from './binding-plan.ts';
import type { Binding, HostState, Site, StoredCertificate } from './iis-host.ts';

/** An https binding with what is needed to compare it with others. */
export interface HttpsBinding {
  site: Site;
  binding: Binding;
  address: BindingAddress;
  /** The http.sys record it takes its certificate from. */
  record: string;
}

/** What a plan is made from, brought into one form. */
export interface PlanScope {
  iisMajor: number;
  osBuild: number;
  /** By id. */
  sites: Site[];
  /** Of all sites, by site and bindingInformation. */
  https: HttpsBinding[];
  /** Ids of the sites the certificate is meant for. */
  targets: ReadonlySet<number>;
  names: readonly string[];
  thumbprint: string;
  oldThumbprint: string | null;
  /** Upper-case thumbprints of what we put there, the new and the replaced one among them. */
  ours: ReadonlySet<string>;
  options: BindingPlanOptions;
}

/** What the steps of planning add to. */
export interface PlanDraft {
  changes: PlannedChange[];
  skipped: SkippedBinding[];
  warnings: string[];
}

export function isProtocol(binding: Binding, protocol: 'http' | 'https' | 'ftp'): boolean {
  return binding.protocol.toLowerCase() === protocol;
}

/** The bindings of a site in an order that does not depend on how the host lists them. */
export function sortedBindings(site: Site): Binding[] {
  const keyOf = ({ bindingInformation, protocol }: Binding) => `${bindingInformation} ${protocol}`;
  return site.bindings.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

/** The https bindings of all sites; those with an unusual bindingInformation have no http.sys record and are left out. */
export function readHttpsBindings(host: HostState): HttpsBinding[] {
  const found: HttpsBinding[] = [];
  for (const site of host.sites.toSorted((a, b) => a.id - b.id)) {
    for (const binding of sortedBindings(site).filter((one) => isProtocol(one, 'https'))) {
      const address = parseBindingInformation(binding.bindingInformation);
      if (address) found.push({ site, binding, address, record: httpSysRecord(address, binding.sslFlags) });
    }
  }
  return found;
}

/** Whether a name of the certificate covers the host; never for a blank host. */
export function covers(names: readonly string[], host: string): boolean {
  return host !== '' && names.some((name) => nameCovers(name, host));
}

export function usesCentralStore(binding: Binding): boolean {
  return (binding.sslFlags & sslFlag.centralStore) !== 0;
}

/** Whether it is the certificate from the right store already; http.sys reads a missing store name as `My`. */
export function isCurrent(scope: PlanScope, { thumbprint, store }: StoredCertificate): boolean {
  return (
    thumbprint?.toUpperCase() === scope.thumbprint &&
    (store || 'My').toLowerCase() === scope.options.store.toLowerCase()
  );
}

/** Whether it is the certificate that is replaced. */
export function carriesOld(scope: PlanScope, { thumbprint }: StoredCertificate): boolean {
  return scope.oldThumbprint !== null && thumbprint?.toUpperCase() === scope.oldThumbprint;
}

/** Whether the options forbid to replace this certificate; nothing stands against a first one. */
export function isForeign(scope: PlanScope, { thumbprint }: StoredCertificate): boolean {
  return scope.options.replace === 'ours' && thumbprint !== null && !scope.ours.has(thumbprint.toUpperCase());
}

/** The reason of what `isForeign` holds back. */
export function foreignReason({ thumbprint }: StoredCertificate): string {
  return `carries the certificate ${thumbprint}, which is not ours: only our own are replaced`;
}

/** An https binding as it would be after the plan. */
export interface PlannedBinding extends HttpsBinding {
  changed: boolean;
}

/** All https bindings as they would be after the changes of the draft. */
export function plannedState(scope: PlanScope, draft: PlanDraft): PlannedBinding[] {
  const keyOf = (siteId: number, information: string) => `${siteId}|${information}`;
  const updates = new Map<string, PlannedChange>();
  const after: PlannedBinding[] = [];
  for (const change of draft.changes) {
    if (change.op === 'update') updates.set(keyOf(change.siteId, change.bindingInformation), change);
  }
  for (const one of scope.https) {
    const update = updates.get(keyOf(one.site.id, one.binding.bindingInformation));
    after.push(update ? plannedBinding(one.site, one.address, update) : { ...one, changed: false });
  }
  const sites = new Map(scope.sites.map((site) => [site.id, site]));
  for (const change of draft.changes.filter(({ op }) => op === 'add')) {
    const site = sites.get(change.siteId);
    const address = parseBindingInformation(change.bindingInformation);
    if (site && address) after.push(plannedBinding(site, address, change));
  }
  return after;
}

/** The binding that a change leaves. */
export function plannedBinding(site: Site, address: BindingAddress, change: PlannedChange): PlannedBinding {
  const { protocol, bindingInformation, sslFlags, thumbprint, store } = change;
  const binding = { protocol, bindingInformation, sslFlags, thumbprint, store };
  return { site, binding, address, record: httpSysRecord(address, sslFlags), changed: true };
}

/** Names that no binding carrying the certificate answers for; a blank host answers for all. */
export function unboundNames(scope: PlanScope, after: readonly PlannedBinding[]): string[] {
  const serving = after.filter(({ binding }) => !usesCentralStore(binding) && isCurrent(scope, binding));
  if (serving.some(({ address }) => address.host === '')) return [];
  const seen = new Set<string>();
  return scope.names.filter((name) => {
    const repeated = seen.has(hostKey(name));
    seen.add(hostKey(name));
    return !repeated && !serving.some(({ address }) => nameCovers(name, address.host));
  });
}
