import type { Binding, BindingChange, HostState } from './iis-host.ts';

/** The binding a change is about, if the host has it. */
export function bindingOf(
  state: HostState,
  { siteId, protocol, bindingInformation }: BindingChange,
): Binding | undefined {
  const site = state.sites.find(({ id }) => id === siteId);
  return site?.bindings.find((one) => one.protocol === protocol && one.bindingInformation === bindingInformation);
}

/**
 * The changes that undo `changes`, from the host as it was before and as it is now. A binding that somebody else has changed since is
 * left alone, and so is one that is as it was.
 */
export function putBack(before: HostState, after: HostState, changes: readonly BindingChange[]): BindingChange[] {
  return changes.toReversed().flatMap((change): BindingChange[] => {
    const { siteId, protocol, bindingInformation } = change;
    const was = bindingOf(before, change);
    const is = bindingOf(after, change);
    const place = { siteId, protocol, bindingInformation };
    const expect = is ? { thumbprint: is.thumbprint, sslFlags: is.sslFlags } : null;
    const ours =
      is === undefined
        ? change.op === 'remove'
        : is.thumbprint === change.thumbprint || is.thumbprint === (was?.thumbprint ?? null);
    if (!ours) return [];
    if (is && was && is.thumbprint === was.thumbprint && is.sslFlags === was.sslFlags && is.store === was.store)
      return [];
    if (!was)
      return is ? [{ ...place, op: 'remove', sslFlags: is.sslFlags, thumbprint: null, store: null, expect }] : [];
    const { sslFlags, thumbprint, store } = was;
    return [{ ...place, op: is ? 'update' : 'add', sslFlags, thumbprint, store, expect }];
  });
}
