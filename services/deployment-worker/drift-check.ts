import type { Clock } from '#libs/clock';
import { asCertlineError } from '#libs/errors';
import { driftOf, foundInstead, type KnownCertificate } from '#libs/iis/drift';
import type { IisHost } from '#libs/iis/iis-host';
import type { Difference, DriftFinding, Expectation } from '#libs/model/drift';
import type { DeliveryTarget, IisTarget, Target } from '#libs/model/target';
import { readChain } from '#libs/service/certificate-reader';
import type { ExpectationStore } from '#libs/store/expectations';
import type { OrderStore } from '#libs/store/orders';
import type { CertificateStore } from '#libs/store/store';
import type { CertificateTarget } from '#libs/targets/certificate-target';
import { placesAt } from '#libs/targets/places';
import type { OpenTarget } from './open-target.ts';
import { thumbprintsOf } from './plan-orders.ts';

export interface DriftCheckDeps {
  expectations: Pick<ExpectationStore, 'of'>;
  certificates: CertificateStore;
  orders: Pick<OrderStore, 'unfinishedAt' | 'get'>;
  openHost(target: Target): IisHost;
  openTarget: OpenTarget;
  clock: Clock;
}

/** What a target should have, and those of its certificates that are not gone, by id. */
interface Expected {
  expectations: readonly Expectation[];
  certificates: ReadonlyMap<string, KnownCertificate>;
}

/**
 * Looks whether targets have what was deployed there. Nothing is changed, and a target of which nothing is expected is not touched. Never
 * throws but for the abort: a target that cannot be looked at is `unknown`, with the error.
 */
export function createDriftCheck(deps: DriftCheckDeps): (target: Target, signal: AbortSignal) => Promise<DriftFinding> {
  const { expectations: store, certificates: known, orders, openHost, openTarget, clock } = deps;

  async function expectedOf(target: string): Promise<Expected> {
    const expectations = await store.of(target);
    const ids = [...new Set(expectations.map(({ certificate }) => certificate))];
    const records = await Promise.all(ids.map(known.get));
    const certificates = new Map(records.flatMap((one) => (one === null ? [] : [[one.id, one]])));
    return { expectations, certificates };
  }

  /** Thumbprints of the certificates that unfinished orders bring to a target: one of them may be there before its order says so. */
  async function underWay(target: string): Promise<Set<string>> {
    const open = await Promise.all((await orders.unfinishedAt(target)).map(orders.get));
    const ids = open.flatMap((order) => (order?.status === 'issued' ? [order.certificate] : []));
    const certificates = await Promise.all([...new Set(ids)].map(known.get));
    return new Set(certificates.flatMap((one) => one?.thumbprint ?? []));
  }

  async function hostDrift(target: IisTarget, expected: Expected, signal: AbortSignal): Promise<Difference[]> {
    const host = openHost(target);
    try {
      const state = await host.read(signal);
      const instead = foundInstead(state, expected.expectations);
      const found = await Promise.all(instead.map(known.findByThumbprint));
      return driftOf({
        ...{ ...expected, state, now: clock.now() },
        found: new Map(found.flatMap((one) => (one === null ? [] : [[one.thumbprint, one]]))),
        ours: await known.knownThumbprints(thumbprintsOf(state)),
        underWay: instead.length === 0 ? new Set() : await underWay(target.id),
      });
    } finally {
      await host.close?.();
    }
  }

  /** What is wrong at one place of a target that is no IIS host, for a person; null when nothing is. */
  async function detailAt(
    target: DeliveryTarget,
    place: CertificateTarget,
    expectation: Expectation,
    certificate: KnownCertificate,
    signal: AbortSignal,
  ): Promise<string | null> {
    const own = placesAt(target, certificate.names).find((one) => one.place === expectation.place);
    if (!own) return `${expectation.place} is no place of certificate ${certificate.id}`;
    // Other files of the certificate may be a newer one's by now: only those names are compared that are for this place.
    const { certificate: record, chainPem } = await readChain({ certificates: known }, certificate.id);
    const { state, differences } = await place.check({ ...record, names: own.names, chainPem }, signal);
    return state === 'different' ? differences.join('; ') : null;
  }

  async function deliveryDrift(
    target: DeliveryTarget,
    { expectations, certificates }: Expected,
    signal: AbortSignal,
  ): Promise<Difference[]> {
    const place = await openTarget(target);
    const differences: Difference[] = [];
    for (const expectation of expectations) {
      signal.throwIfAborted();
      const { place: name, order, certificate: id, thumbprint } = expectation;
      const found = { place: name, site: null, order, certificate: id, expected: { thumbprint, store: null } };
      const certificate = certificates.get(id);
      if (certificate === undefined) {
        const detail = `certificate ${id} is gone from certline, so that ${name} cannot be compared`;
        const unrepairable = `certificate ${id} is gone from certline: order a new one`;
        differences.push({ ...found, actual: null, detail, unrepairable });
        continue;
      }
      const detail = await detailAt(target, place, expectation, certificate, signal);
      if (detail === null) continue;
      const hasExpired = certificate.notAfter <= clock.now();
      const expiry = `the certificate expired at ${new Date(certificate.notAfter).toISOString()}: order a new one`;
      const isMissing = detail.endsWith(`${name} is missing`);
      const actual = isMissing ? null : { thumbprint: null, store: null };
      differences.push({ ...found, actual, detail, unrepairable: hasExpired ? expiry : null });
    }
    return differences;
  }

  return async (target, signal) => {
    const finding = { target: target.id, checkedAt: clock.now(), places: 0, differences: [], error: null };
    try {
      const expected = await expectedOf(target.id);
      const places = expected.expectations.length;
      if (places === 0) return { ...finding, state: 'nothing' };
      finding.places = places;
      const differences = await (target.kind === 'iis'
        ? hostDrift(target, expected, signal)
        : deliveryDrift(target, expected, signal));
      return { ...finding, state: differences.length === 0 ? 'in_sync' : 'drifted', differences };
    } catch (thrown) {
      signal.throwIfAborted();
      const { code, message: detail } = asCertlineError(thrown);
      return { ...finding, state: 'unknown', error: { code, detail } };
    }
  };
}
