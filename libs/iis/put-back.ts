import { httpSysRecord, parseBindingInformation } from './binding-information.ts';
import type { Binding, BindingChange, HostState, Site } from './iis-host.ts';

/** The binding a change is about, if the host has it; an ftp site's certificate looks like a binding without an address. */
export function bindingOf(
  state: { sites: readonly Site[] },
  { siteId, protocol, bindingInformation }: Pick<BindingChange, 'siteId' | 'protocol' | 'bindingInformation'>,
): Binding | undefined {
  const site = state.sites.find(({ id }) => id === siteId);
  if (protocol === 'ftp') return site?.ftp ? { protocol, bindingInformation: '', sslFlags: 0, ...site.ftp } : undefined;
  return site?.bindings.find(
    (one) => one.protocol.toLowerCase() === protocol && one.bindingInformation === bindingInformation,
  );
}

function recordOf(bindingInformation: string, sslFlags: number): string | null {
  const address = parseBindingInformation(bindingInformation);
  return address && httpSysRecord(address, sslFlags);
}

function undo(before: HostState, after: HostState, change: BindingChange): BindingChange | null {
  const { siteId, protocol, bindingInformation } = change;
  const was = bindingOf(before, change);
  const is = bindingOf(after, change);
  const place = { siteId, protocol, bindingInformation };
  const expect = is ? { thumbprint: is.thumbprint, sslFlags: is.sslFlags } : null;
  const ours =
    is === undefined
      ? change.op === 'remove'
      : is.thumbprint === change.thumbprint || is.thumbprint === (was?.thumbprint ?? null);
  if (!ours) return null;
  if (!was) {
    if (!is || protocol === 'ftp') return null;
    return { ...place, op: 'remove', sslFlags: is.sslFlags, thumbprint: null, store: null, expect };
  }
  if (is && is.thumbprint === was.thumbprint && is.sslFlags === was.sslFlags && is.store === was.store) return null;
  const { sslFlags, thumbprint, store } = was;
  return { ...place, op: is ? 'update' : 'add', sslFlags, thumbprint, store, expect };
}

/**
 * Gives the http.sys records that `changes` wrote, and that bindings outside of them use too, their certificates back, one binding for
 * each: a new binding may have had its record from another site's, and would leave it with the new certificate.
 */
function undoRecords(
  before: HostState,
  after: HostState,
  changes: readonly BindingChange[],
  undone: readonly BindingChange[],
): BindingChange[] {
  const recordOfChange = (change: BindingChange) =>
    change.protocol === 'https' ? recordOf(change.bindingInformation, change.sslFlags) : null;
  const written = new Map(
    changes.flatMap((change) => (change.op === 'remove' ? [] : [[recordOfChange(change), change]])),
  );
  const restored = new Set(undone.flatMap((change) => (change.op === 'remove' ? [] : [recordOfChange(change)])));
  const more: BindingChange[] = [];
  for (const site of after.sites) {
    for (const is of site.bindings.filter(({ protocol }) => protocol.toLowerCase() === 'https')) {
      const { bindingInformation } = is;
      const place = { siteId: site.id, protocol: 'https' as const, bindingInformation };
      const record = recordOf(bindingInformation, is.sslFlags);
      const writer = record === null ? undefined : written.get(record);
      const was = bindingOf(before, place);
      if (!writer || !was || restored.has(record) || changes.some((one) => isSamePlace(one, place))) continue;
      if (is.thumbprint !== writer.thumbprint || was.sslFlags !== is.sslFlags) continue;
      if (is.thumbprint === was.thumbprint && is.store === was.store) continue;
      const { sslFlags, thumbprint, store } = was;
      const expect = { thumbprint: is.thumbprint, sslFlags: is.sslFlags };
      more.push({ ...place, op: 'update', sslFlags, thumbprint, store, expect });
      restored.add(record);
    }
  }
  return more;
}

function isSamePlace(a: BindingChange, b: Pick<BindingChange, 'siteId' | 'protocol' | 'bindingInformation'>): boolean {
  return a.siteId === b.siteId && a.protocol === b.protocol && a.bindingInformation === b.bindingInformation;
}

/**
 * The changes that undo `changes`, from the host as it was before and as it is now. A binding that somebody else has changed since is
 * left alone, and so is one that is as it was. Bindings that were not in `changes` but followed them get their certificate back too.
 */
export function putBack(before: HostState, after: HostState, changes: readonly BindingChange[]): BindingChange[] {
  const undone = changes.toReversed().flatMap((change) => undo(before, after, change) ?? []);
  return [...undone, ...undoRecords(before, after, changes, undone)];
}
