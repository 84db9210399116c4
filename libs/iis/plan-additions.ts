import {
  type BindingAddress,
  bindingIp,
  formatBindingInformation,
  hostKey,
  httpSysRecord,
  parseBindingInformation,
  sslFlag,
} from './binding-information.ts';
import type { PlannedChange } from './binding-plan.ts';
import type { Site } from './iis-host.ts';
import {
  covers,
  isCurrent,
  isForeign,
  isProtocol,
  type PlanDraft,
  type PlannedBinding,
  type PlanScope,
  plannedBinding,
  plannedState,
  sortedBindings,
  unboundNames,
} from './plan-scope.ts';

/** The https bindings as the plan leaves them so far, found by what two bindings may not have in common. */
class Occupancy {
  readonly #byAddress = new Map<string, PlannedBinding>();
  readonly #byRecord = new Map<string, PlannedBinding[]>();

  constructor(after: readonly PlannedBinding[]) {
    for (const one of after) this.take(one);
  }

  take(one: PlannedBinding): void {
    const key = this.#key(one.address);
    if (!this.#byAddress.has(key)) this.#byAddress.set(key, one);
    this.#byRecord.set(one.record, [...(this.#byRecord.get(one.record) ?? []), one]);
  }

  at(address: BindingAddress): PlannedBinding | undefined {
    return this.#byAddress.get(this.#key(address));
  }

  sharing(record: string): PlannedBinding[] {
    return this.#byRecord.get(record) ?? [];
  }

  #key({ ip, port, host }: BindingAddress): string {
    return `${ip}:${port}:${hostKey(host)}`;
  }
}

/** New bindings use SNI unless told, where there is a host name and IIS knows it (from 8): only then is the record their own. */
function flagsFor(scope: PlanScope, host: string): number {
  return host !== '' && scope.iisMajor >= 8 && scope.options.sni !== false ? sslFlag.sni : 0;
}

/** Why IIS, or another binding, stands against adding this one; null when nothing does. */
function refusal(scope: PlanScope, occupancy: Occupancy, address: BindingAddress, flags: number): string | null {
  if (address.host.startsWith('*.') && scope.iisMajor < 10) return `IIS ${scope.iisMajor} has no wildcard host names`;
  const twin = occupancy.at(address);
  if (twin) return `site ${twin.site.id} already has this address and host: two sites with both cannot run`;
  const record = httpSysRecord(address, flags);
  const sharers = occupancy.sharing(record);
  const foreign = sharers.find((one) => isForeign(scope, one.binding));
  if (foreign) return `would change ${record}, which site ${foreign.site.id} uses with a certificate that is not ours`;
  if (flags !== 0) return null;
  if (scope.iisMajor < 8 && sharers[0]) {
    return `IIS ${scope.iisMajor} has one certificate for ${record}, which site ${sharers[0].site.id} uses`;
  }
  const harmless = sharers.every((one) => isCurrent(scope, one.binding));
  return harmless ? null : `shares ${record} with a binding that is not in the plan`;
}

function add(
  scope: PlanScope,
  draft: PlanDraft,
  occupancy: Occupancy,
  site: Site,
  address: BindingAddress,
  reason: string,
): void {
  const bindingInformation = formatBindingInformation(address);
  const sslFlags = flagsFor(scope, address.host);
  const against = scope.options.updateOnly
    ? 'is not there, and only existing bindings are updated'
    : refusal(scope, occupancy, address, sslFlags);
  if (against !== null) {
    draft.skipped.push({ siteId: site.id, protocol: 'https', bindingInformation, reason: against });
    return;
  }
  const change: PlannedChange = {
    op: 'add',
    siteId: site.id,
    protocol: 'https',
    bindingInformation,
    sslFlags,
    thumbprint: scope.thumbprint,
    store: scope.options.store,
    expect: null,
    reason,
  };
  draft.changes.push(change);
  occupancy.take(plannedBinding(site, address, change));
}

/**
 * The address of the https binding beside an http binding. The IP of the http binding matters only without SNI: an IP-specific https
 * binding is the main cause of wrong certificates.
 */
function httpsAddress(scope: PlanScope, http: BindingAddress): BindingAddress {
  const { ip, port = 443 } = scope.options;
  const usual = flagsFor(scope, http.host) === 0 ? http.ip : '*';
  return { ip: ip === undefined ? usual : bindingIp(ip), port, host: http.host };
}

/**
 * Plans the https bindings that do not exist yet: beside every http binding with a covered host that has no https binding in its site, on
 * whatever port, and with `addMissing` for the names that have no binding at all. With `updateOnly` it only says what is left out.
 */
export function planAdditions(scope: PlanScope, draft: PlanDraft): void {
  const occupancy = new Occupancy(plannedState(scope, draft));
  const tried = new Set<string>();
  const isFirst = (site: Site, { ip, port, host }: BindingAddress) => {
    const key = `${site.id}|${ip}:${port}:${hostKey(host)}`;
    const first = !tried.has(key);
    tried.add(key);
    return first;
  };
  const addOnce = (site: Site, address: BindingAddress, reason: string) => {
    if (isFirst(site, address)) add(scope, draft, occupancy, site, address, reason);
  };
  const leaveOnce = (site: Site, address: BindingAddress, reason: string) => {
    const bindingInformation = formatBindingInformation(address);
    if (isFirst(site, address)) draft.skipped.push({ siteId: site.id, protocol: 'https', bindingInformation, reason });
  };
  const served = Map.groupBy(scope.https, (one) => one.site.id);
  for (const site of scope.sites.filter(({ id }) => scope.targets.has(id))) {
    const ownHosts = new Set(served.get(site.id)?.map((one) => hostKey(one.address.host)));
    for (const binding of sortedBindings(site).filter((one) => isProtocol(one, 'http'))) {
      const http = parseBindingInformation(binding.bindingInformation);
      if (!http || ownHosts.has(hostKey(http.host))) continue;
      const wanted = http.host === '' ? scope.options.blankHost : covers(scope.names, http.host);
      const address = httpsAddress(scope, http);
      if (wanted) addOnce(site, address, `beside the http binding ${binding.bindingInformation}`);
      else if (scope.options.mode === 'site') {
        const what =
          http.host === '' ? 'has no host name: only with blankHost' : 'the certificate does not cover its host';
        leaveOnce(site, address, what);
      }
    }
  }
  const chosen = scope.sites.find(({ id }) => id === scope.options.site);
  if (scope.options.mode !== 'site' || !scope.options.addMissing || scope.options.updateOnly || !chosen) return;
  const { ip = '*', port = 443 } = scope.options;
  for (const name of unboundNames(scope, plannedState(scope, draft))) {
    addOnce(chosen, { ip: bindingIp(ip), port, host: name }, 'the name has no binding, and such are asked for');
  }
}
