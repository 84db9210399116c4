import { httpSysRecord, parseBindingInformation } from './binding-information.ts';
import type { BindingPlan, PlannedChange } from './binding-plan.ts';
import type { Binding, HostState, Site } from './iis-host.ts';

/** What a binding serves. */
export interface BindingView {
  thumbprint: string | null;
  store: string | null;
  sslFlags: number;
}

/** One line of the table of what a plan does. */
export interface PreviewedBinding {
  siteId: number;
  site: string;
  protocol: 'https' | 'ftp';
  /** Empty with `ftp`: the certificate is the site's, for all its ftp bindings. */
  bindingInformation: string;
  /** Null for a binding that does not exist yet. */
  before: BindingView | null;
  /** Null for a binding that is removed. */
  after: BindingView | null;
  /** Why it changes, or why it does not; for a person. */
  reason: string;
}

type Place = Pick<PreviewedBinding, 'siteId' | 'protocol' | 'bindingInformation'>;

const keyOf = ({ siteId, protocol, bindingInformation }: Place) => `${siteId}|${protocol}|${bindingInformation}`;
const viewOf = ({ thumbprint, store, sslFlags }: BindingView): BindingView => ({ thumbprint, store, sslFlags });

function recordOf(bindingInformation: string, sslFlags: number): string | null {
  const address = parseBindingInformation(bindingInformation);
  return address && httpSysRecord(address, sslFlags);
}

/** What a site has that can carry a certificate. */
function carriersOf(site: Site): (Place & { view: BindingView })[] {
  const https = site.bindings.filter(({ protocol }) => protocol.toLowerCase() === 'https');
  const carriers = https.map((binding: Binding) => ({
    siteId: site.id,
    protocol: 'https' as const,
    bindingInformation: binding.bindingInformation,
    view: viewOf(binding),
  }));
  if (site.ftp === null) return carriers;
  return [
    ...carriers,
    { siteId: site.id, protocol: 'ftp', bindingInformation: '', view: { ...site.ftp, sslFlags: 0 } },
  ];
}

/**
 * The https bindings and ftp certificates of every site that the plan changes, or leaves something alone in, as they are and as they would
 * be: also those that are not in the plan, and those that only follow because http.sys keeps one certificate for several.
 * By site, the existing ones in the order of the host, then the new ones.
 */
export function describePlan(state: HostState, plan: Pick<BindingPlan, 'changes' | 'skipped'>): PreviewedBinding[] {
  const changes = new Map(plan.changes.map((change) => [keyOf(change), change]));
  const skipped = new Map(plan.skipped.map((one) => [keyOf(one), one.reason]));
  const written = new Map<string, PlannedChange>();
  for (const change of plan.changes) {
    const record = change.protocol === 'https' ? recordOf(change.bindingInformation, change.sslFlags) : null;
    if (record !== null && change.op !== 'remove') written.set(record, change);
  }

  function rowOf(site: Site, { view: before, ...place }: Place & { view: BindingView }): PreviewedBinding {
    const row = { ...place, site: site.name, before };
    const change = changes.get(keyOf(place));
    if (change) return { ...row, after: change.op === 'remove' ? null : viewOf(change), reason: change.reason };
    const record = place.protocol === 'https' ? recordOf(place.bindingInformation, before.sslFlags) : null;
    const writer = record === null ? undefined : written.get(record);
    if (writer && writer.thumbprint !== before.thumbprint?.toUpperCase()) {
      const reason = `http.sys keeps one certificate for ${record}, which ${writer.bindingInformation} of site ${writer.siteId} changes`;
      return { ...row, after: { ...viewOf(writer), sslFlags: before.sslFlags }, reason };
    }
    return { ...row, after: before, reason: skipped.get(keyOf(place)) ?? 'is not in the plan' };
  }

  const touched = new Set([...plan.changes, ...plan.skipped].map(({ siteId }) => siteId));
  return state.sites
    .toSorted((a, b) => a.id - b.id)
    .flatMap((site) => {
      const rows = carriersOf(site).map((carrier) => rowOf(site, carrier));
      const follows = rows.some(({ before, after }) => before?.thumbprint !== after?.thumbprint);
      if (!touched.has(site.id) && !follows) return [];
      const added = plan.changes.filter(({ op, siteId }) => op === 'add' && siteId === site.id);
      const newRows = added.map((change): PreviewedBinding => {
        const { siteId, protocol, bindingInformation, reason } = change;
        return { siteId, site: site.name, protocol, bindingInformation, before: null, after: viewOf(change), reason };
      });
      return [...rows, ...newRows];
    });
}
