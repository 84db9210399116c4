import { type BindingPlace, bindingKey } from '../model/drift.ts';
import type { TargetDeploy } from '../model/order.ts';
import { recordOf } from './binding-information.ts';
import type { Binding, BindingChange, HostState, StoredCertificate } from './iis-host.ts';
import { isProtocol } from './plan-scope.ts';

/** A place of a host that has a certificate, once a commit is done. */
export interface Carrier extends BindingPlace {
  /** Certificate store. */
  store: string | null;
  sslFlags: number;
  /** Whether the commit brought it there. */
  changed: boolean;
}

interface Holder extends Carrier {
  thumbprint: string | null;
  record: string | null;
}

/** Many deployments look at one state of a host: what record a binding of it has is found out once. */
const records = new WeakMap<Binding, string | null>();

function recordOfBinding(binding: Binding): string | null {
  const known = records.get(binding);
  if (known !== undefined) return known;
  const record = recordOf(binding);
  records.set(binding, record);
  return record;
}

/** Every place of the host that can have a certificate as the changes leave it: also those that follow because they share a record of http.sys. */
function holdersAfter({ sites }: HostState, changes: readonly BindingChange[]): Holder[] {
  const byPlace = new Map(changes.map((change) => [bindingKey(change), change]));
  const written = new Map<string | null, BindingChange>();
  for (const change of changes)
    if (change.op !== 'remove' && change.protocol === 'https') written.set(recordOf(change), change);
  written.delete(null);

  const holder = (place: BindingPlace, is: StoredCertificate & { sslFlags: number }, had: string | null): Holder[] => {
    const own = byPlace.get(bindingKey(place));
    if (own?.op === 'remove') return [];
    const sslFlags = own?.sslFlags ?? is.sslFlags;
    const { siteId, protocol, bindingInformation } = place;
    const record = own && protocol === 'https' ? recordOf(own) : had;
    const writer = own ?? written.get(record);
    const { thumbprint, store } = writer ?? is;
    const changed = writer !== undefined && (own !== undefined || is.thumbprint !== thumbprint);
    return [{ siteId, protocol, bindingInformation, sslFlags, record, thumbprint, store, changed }];
  };
  const there = sites.flatMap(({ id: siteId, bindings, ftp }) => [
    ...bindings
      .filter((one) => isProtocol(one, 'https'))
      .flatMap((one) => {
        const { bindingInformation } = one;
        return holder({ siteId, protocol: 'https', bindingInformation }, one, recordOfBinding(one));
      }),
    ...(ftp ? holder({ siteId, protocol: 'ftp', bindingInformation: '' }, { ...ftp, sslFlags: 0 }, null) : []),
  ]);
  const added = changes.filter(({ op }) => op === 'add').flatMap((change) => holder(change, change, null));
  return [...there, ...added];
}

/**
 * Where a host has the certificate of a deployment once its changes are made: what they bring it to, and what had it already of all that
 * the deployment is for; with these whatever shares their records of http.sys. With `only` nothing but those places. Pure.
 */
export function carriersAfter(
  state: HostState,
  changes: readonly BindingChange[],
  thumbprint: string,
  { mode, site, only }: Pick<TargetDeploy, 'mode' | 'site' | 'only'>,
): Carrier[] {
  const wanted = thumbprint.toUpperCase();
  const carriers = holdersAfter(state, changes).filter((one) => one.thumbprint?.toUpperCase() === wanted);
  const places = only && new Set(only);
  const meant = carriers.filter((one) => {
    if (places) return places.has(bindingKey(one));
    return one.changed || mode !== 'site' || one.siteId === site;
  });
  const shared = new Set(meant.flatMap(({ record }) => record ?? []));
  const followers = carriers.filter((one) => !places && shared.has(one.record ?? ''));
  return [...new Set([...meant, ...followers])].map(({ thumbprint: _, record: __, ...carrier }) => carrier);
}
