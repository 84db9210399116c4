import { CertlineError } from '../errors.ts';
import type { Certificate } from '../model/certificate.ts';
import { bindingKey, bindingPlace, type Difference, type Expectation } from '../model/drift.ts';
import type { BindingPlan } from './binding-plan.ts';
import { defaultStore, draftDeployment } from './deployment-plan.ts';
import type { Binding, HostState, Site } from './iis-host.ts';
import { changesAt, withoutSuperseded } from './plan-restriction.ts';
import { isProtocol } from './plan-scope.ts';

/** What is to be known of a certificate of certline. */
export type KnownCertificate = Pick<Certificate, 'id' | 'names' | 'thumbprint' | 'notAfter' | 'createdAt'>;

/** What a host is compared by. */
export interface HostComparison {
  state: HostState;
  expectations: readonly Expectation[];
  /** Certificates of the expectations by id; those that are gone from the store are missing. */
  certificates: ReadonlyMap<string, KnownCertificate>;
  /** Certificates of certline by thumbprint, of those that are there instead of what is expected. */
  found: ReadonlyMap<string, KnownCertificate>;
  /** Thumbprints on the host that are of certificates of certline. */
  ours: ReadonlySet<string>;
  /** Thumbprints that unfinished orders bring to the host: a place that has one already is about to be expected to. */
  underWay: ReadonlySet<string>;
  /** Ms since the epoch. */
  now: number;
}

const sameStore = (a: string | null, b: string | null): boolean =>
  (a || defaultStore).toLowerCase() === (b || defaultStore).toLowerCase();

type Certificated = Pick<Binding, 'thumbprint' | 'store'>;

/** What of a host can have a certificate, by place. */
function byPlace({ sites }: HostState): Map<string, Certificated> {
  const there = sites.flatMap(({ id: siteId, bindings, ftp }): [string, Certificated][] => [
    ...bindings
      .filter((one) => isProtocol(one, 'https'))
      .map((one): [string, Certificated] => [bindingKey({ ...one, siteId, protocol: 'https' }), one]),
    ...(ftp ? [[bindingKey({ siteId, protocol: 'ftp', bindingInformation: '' }), ftp] as [string, Certificated]] : []),
  ]);
  return new Map(there);
}

/** Thumbprints that are at some places instead of what is expected there, each once. */
export function foundInstead(state: HostState, expectations: readonly Expectation[]): string[] {
  const there = byPlace(state);
  const all = expectations.flatMap(({ place, thumbprint }) => {
    const found = there.get(place)?.thumbprint?.toUpperCase();
    return found === undefined || found === thumbprint ? [] : [found];
  });
  return [...new Set(all)];
}

/** What is wrong at a place, for a person; null when nothing is. */
function detailOf(
  expectation: Expectation,
  site: Site | undefined,
  is: Certificated | undefined,
  { certificates, found, underWay }: HostComparison,
): string | null {
  const { siteId, protocol, bindingInformation } = bindingPlace(expectation.place);
  const { thumbprint: wanted, store } = expectation;
  if (!site) return `site ${siteId} is gone`;
  if (!is) {
    return protocol === 'ftp' ? `${site.name} has no ftp bindings` : `${bindingInformation} is gone from ${site.name}`;
  }
  const what = protocol === 'ftp' ? `ftp of ${site.name}` : `${bindingInformation} of ${site.name}`;
  const thumbprint = is.thumbprint?.toUpperCase() ?? null;
  if (thumbprint === wanted) {
    if (sameStore(is.store, store)) return null;
    return `${what} takes ${wanted} from the store ${is.store || defaultStore} instead of ${store || defaultStore}`;
  }
  if (thumbprint === null) return `${what} has no certificate instead of ${wanted}`;
  if (underWay.has(thumbprint)) return null;
  const known = found.get(thumbprint);
  const before = certificates.get(expectation.certificate);
  const age = !before ? 'another' : (known?.createdAt ?? 0) > before.createdAt ? 'a newer' : 'an older';
  const whose = known ? `${age} certificate of certline (${known.id})` : 'which is no certificate of certline';
  return `${what} has ${thumbprint}, ${whose}, instead of ${wanted}`;
}

/** Plans the deployments of expectations, each once for all of its places. */
function createPlans({ state, ours }: HostComparison) {
  const plans = new Map<string, BindingPlan | CertlineError>();
  return ({ certificate, deploy }: Expectation, planned: KnownCertificate): BindingPlan | CertlineError => {
    const { planHash: _hash, only: _only, ...asked } = deploy;
    const key = JSON.stringify([certificate, asked]);
    const known = plans.get(key);
    if (known) return known;
    let plan: BindingPlan | CertlineError;
    try {
      plan = draftDeployment(state, planned, asked, ours);
    } catch (error) {
      if (!(error instanceof CertlineError)) throw error;
      plan = error;
    }
    plans.set(key, plan);
    return plan;
  };
}

/**
 * What of a host is not as it should be: bindings that have another certificate or none, take it from another store, or are gone. What
 * nobody expects anything of is nobody's business. `unrepairable` says why deploying the certificate there again, as its order did, would
 * leave the place as it is. Pure.
 */
export function driftOf(comparison: HostComparison): Difference[] {
  const { state, expectations, certificates, found, now } = comparison;
  const sites = new Map(state.sites.map((site) => [site.id, site]));
  const there = byPlace(state);
  const planOf = createPlans(comparison);

  const newerThan = ({ createdAt }: KnownCertificate): Map<string, readonly string[]> =>
    new Map(
      [...found].filter(([, one]) => one.createdAt > createdAt).map(([thumbprint, { names }]) => [thumbprint, names]),
    );

  function obstacleTo(expectation: Expectation, site: Site | undefined, is: Certificated | undefined): string | null {
    const { place, certificate, order } = expectation;
    const planned = certificates.get(certificate);
    if (!planned) return `certificate ${certificate} is gone from certline: order a new one`;
    if (planned.notAfter <= now)
      return `the certificate expired at ${new Date(planned.notAfter).toISOString()}: order a new one`;
    if (!site) return `site ${bindingPlace(place).siteId} is gone`;
    const plan = planOf(expectation, planned);
    if (plan instanceof CertlineError) return plan.message;
    const { changes, left } = withoutSuperseded(state, changesAt(state, plan.changes, [place]), newerThan(planned));
    if (changes.length > 0) return null;
    // Somebody renewed it some other way: to go back to the older one is for a person to decide.
    if (left[0]) return `${left[0].reason}: accept it as it is, or deploy the older certificate by hand`;
    const skipped = plan.skipped.find((one) => bindingKey(one) === place);
    if (skipped) return skipped.reason;
    return is
      ? `a deployment as that of ${order} would leave it as it is`
      : `a deployment as that of ${order} would not add it: add the binding, or an http binding with its host name`;
  }

  return expectations.flatMap((expectation): Difference[] => {
    const { place, order, certificate, thumbprint, store } = expectation;
    const site = sites.get(bindingPlace(place).siteId);
    const is = there.get(place);
    const detail = detailOf(expectation, site, is, comparison);
    if (detail === null) return [];
    return [
      {
        ...{ place, site: site?.name ?? null, order, certificate, expected: { thumbprint, store } },
        actual: is ? { thumbprint: is.thumbprint, store: is.store } : null,
        ...{ detail, unrepairable: obstacleTo(expectation, site, is) },
      },
    ];
  });
}
