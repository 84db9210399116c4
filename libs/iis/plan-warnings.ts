import { parseBindingInformation, usesSni } from './binding-information.ts';
import type { PlannedChange, SharedRecord } from './binding-plan.ts';
import {
  covers,
  isProtocol,
  type PlannedBinding,
  type PlanScope,
  sortedBindings,
  usesCentralStore,
} from './plan-scope.ts';

const place = (one: Pick<PlannedBinding, 'binding' | 'site'>) =>
  `${one.binding.bindingInformation} of site ${one.site.id}`;

/** Windows Server 2019: the first that reads a PFX encrypted with AES. */
const firstBuildWithAes = 17_763;

/** What the version of the host means for the deployment, whatever is changed. */
export function hostWarnings({ osBuild, iisMajor, options }: PlanScope): string[] {
  const warnings: string[] = [];
  if (osBuild < firstBuildWithAes) {
    warnings.push(
      `Windows build ${osBuild} (Server 2016 or older) cannot read a PFX encrypted with AES: it is sent in the old 3DES form`,
    );
  }
  if (iisMajor < 8 && options.mode !== 'store') {
    warnings.push(`IIS ${iisMajor} has no SNI: all bindings of one ip:port have one certificate, whatever their hosts`);
  }
  return warnings;
}

/** Sites that are not started: those that get the certificate but do not answer, and those that are left out for it. */
export function siteWarnings(scope: PlanScope, changes: readonly PlannedChange[]): string[] {
  const { mode } = scope.options;
  const changed = new Set(changes.map(({ siteId }) => siteId));
  return scope.sites.flatMap((site) => {
    if (site.state === 'Started' || mode === 'store') return [];
    if (changed.has(site.id) || (mode === 'site' && scope.targets.has(site.id))) {
      return [`site ${site.id} is not started: its bindings are set, but nothing answers on them yet`];
    }
    if (mode === 'site') return [];
    const web = sortedBindings(site).filter((one) => isProtocol(one, 'http') || isProtocol(one, 'https'));
    const hosts = web.map(({ bindingInformation }) => parseBindingInformation(bindingInformation)?.host ?? '');
    const covered = hosts.find((host) => covers(scope.names, host));
    if (covered === undefined) return [];
    return [`site ${site.id} is not started: mode ${mode} leaves it out, though the certificate covers ${covered}`];
  });
}

/** A port serves either http or https: http.sys starts no site that asks for the other one on it. */
export function mixedPortWarnings(scope: PlanScope, changes: readonly PlannedChange[]): string[] {
  const http = scope.sites.flatMap((site) => {
    const own = sortedBindings(site).filter((one) => isProtocol(one, 'http'));
    return own.map((binding) => ({ site, binding, address: parseBindingInformation(binding.bindingInformation) }));
  });
  return changes.flatMap(({ op, siteId, bindingInformation }) => {
    const address = op === 'add' ? parseBindingInformation(bindingInformation) : null;
    if (!address) return [];
    const clash = http.find(
      (one) =>
        one.address?.port === address.port &&
        (one.address.ip === address.ip || one.address.ip === '*' || address.ip === '*'),
    );
    if (!clash) return [];
    return [
      `${bindingInformation} of site ${siteId} has the port of the http binding ${place(clash)}: a port serves either http or https`,
    ];
  });
}

function byRecord(after: readonly PlannedBinding[]): [string, PlannedBinding[]][] {
  const groups = Map.groupBy(after, (one) => one.record);
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The records that changed bindings share with others, and a warning where one that is not in the plan gets the certificate with them. */
export function sharedRecords(
  after: readonly PlannedBinding[],
  thumbprint: string,
): { shared: SharedRecord[]; warnings: string[] } {
  const shared: SharedRecord[] = [];
  const warnings: string[] = [];
  for (const [record, members] of byRecord(after)) {
    if (members.length < 2 || !members.some((one) => one.changed)) continue;
    const siteIds = [...new Set(members.map((one) => one.site.id))].sort((a, b) => a - b);
    shared.push({ record, siteIds });
    for (const one of members.filter((member) => member.binding.thumbprint?.toUpperCase() !== thumbprint)) {
      warnings.push(`http.sys keeps one certificate for ${record}: ${place(one)} gets the new one too`);
    }
  }
  return { shared, warnings };
}

/**
 * http.sys looks for the exact ip:port before it looks at the host name: a certificate without SNI on an IP of its own hides the SNI
 * bindings of that port from the clients of that IP. One warning per such record that concerns the plan.
 */
export function hidingWarnings(after: readonly PlannedBinding[]): string[] {
  const named = after.filter((one) => usesSni(one.address, one.binding.sslFlags) && !usesCentralStore(one.binding));
  const own = after.filter(
    (one) => one.address.ip !== '*' && !usesSni(one.address, one.binding.sslFlags) && !usesCentralStore(one.binding),
  );
  const warnings: string[] = [];
  for (const [record, [first, ...others]] of byRecord(own)) {
    if (!first) continue;
    const hidden = named.filter(
      ({ address }) => address.port === first.address.port && (address.ip === '*' || address.ip === first.address.ip),
    );
    if (hidden.length === 0 || ![first, ...others, ...hidden].some((one) => one.changed)) continue;
    const example = hidden.find((one) => one.changed) ?? hidden[0];
    const more = hidden.length > 1 ? ` and ${hidden.length - 1} more` : '';
    warnings.push(
      `${place(first)} has no SNI: clients of ${record} get its certificate whatever host they ask for, also instead of ${example ? place(example) : ''}${more}`,
    );
  }
  return warnings;
}
