import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logging.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Certificate } from '../model/certificate.ts';
import type { Difference, DriftReport, Expectation } from '../model/drift.ts';
import { newId } from '../model/ids.ts';
import type { Order, TargetDeploy } from '../model/order.ts';
import type { Target } from '../model/target.ts';
import { redeployment } from '../model/transitions.ts';
import type { DriftReports } from '../store/drift-reports.ts';
import type { Leases } from '../store/leases.ts';
import type { OrderStore } from '../store/orders.ts';
import type { CertificateStore } from '../store/store.ts';
import type { Producer } from './producer.ts';

/** Repairs that a place gets by itself within the span: more would be a fight with another tool. */
export const repairLimit = 3;
export const repairSpanMs = 86_400_000;

export interface DriftRepairsDeps {
  expectations: { of(target: string): Promise<Expectation[]> };
  certificates: Pick<CertificateStore, 'get'>;
  orders: Pick<OrderStore, 'get' | 'place' | 'unfinishedAt'>;
  driftReports: Pick<DriftReports, 'repairs' | 'addRepair'>;
  leases: Pick<Leases, 'hold'>;
  producer: Pick<Producer, 'enqueue'>;
  metrics: Pick<Metrics, 'driftRepairs'>;
  clock: Clock;
  log: Logger;
}

/** What became of the differences of a report. */
export interface Repair {
  orders: Order[];
  /** Places that are left as they are. */
  left: { place: string; reason: string }[];
}

/** Puts right what is not as it should be, by orders as any other. */
export interface DriftRepairs {
  /**
   * Places an order for each deployment whose places differ. By the target's policy (`policy`) a place is repaired `repairLimit` times
   * within 24 hours; a person (`request`) may do it as often as there is need. May be called again after it was cut off at any line: an
   * order that is there already is not placed again.
   */
  place(target: Target, report: DriftReport, by: 'policy' | 'request'): Promise<Repair>;
}

/** The lease of a process that dies is free soon: its job is taken over then. */
const leaseMs = 5_000;

interface Group {
  certificate: string;
  deploy: TargetDeploy;
  places: string[];
}

/** Whether an order is about to put a certificate for some of these names on the target: it comes before a repair, and may be newer. */
function isUnderWay(order: Order, target: string, certificate: Certificate): boolean {
  if (order.status !== 'issued') return false;
  const mine = order.deployments.find((one) => one.target === target);
  // A wave that has not begun may not begin for days.
  if (mine !== undefined && mine.status !== 'under way') return false;
  const names = new Set(certificate.names);
  return order.certificate === certificate.id || order.request.names.some((name) => names.has(name));
}

export function createDriftRepairs(deps: DriftRepairsDeps): DriftRepairs {
  const { expectations, certificates, orders, driftReports, leases, producer, metrics, clock, log } = deps;

  /** The differences that can be put right, by the deployment that did it before. */
  async function sortOut(target: Target, differences: readonly Difference[], left: Repair['left']): Promise<Group[]> {
    const expected = new Map((await expectations.of(target.id)).map((one) => [one.place, one]));
    const groups: Group[] = [];
    for (const { place, order, certificate, unrepairable } of differences) {
      const was = expected.get(place);
      if (unrepairable !== null) left.push({ place, reason: unrepairable });
      else if (was?.order !== order || was.certificate !== certificate)
        left.push({ place, reason: 'something else is to be there by now: look again' });
      else {
        const { deploy } = was;
        const group = groups.find((one) => one.certificate === certificate && isDeepStrictEqual(one.deploy, deploy));
        if (group) group.places.push(place);
        else groups.push({ certificate, deploy, places: [place] });
      }
    }
    return groups;
  }

  async function orderOf(certificate: Certificate, { deploy, places }: Group): Promise<Order> {
    const first = (await orders.get(certificate.order))?.request;
    const now = clock.now();
    return redeployment(newId('order', now), certificate, { ...deploy, only: places }, first, now);
  }

  /** Why a group is not repaired now. */
  function hindrance(group: Group, certificate: Certificate | null, target: string, unfinished: Order[]) {
    if (certificate === null) return `the certificate ${group.certificate} is gone: order a new one`;
    const { notAfter } = certificate;
    if (notAfter <= clock.now())
      return `the certificate expired at ${new Date(notAfter).toISOString()}: order a new one`;
    const order = unfinished.find((one) => isUnderWay(one, target, certificate));
    return order === undefined ? null : `${order.id} is to deploy there already`;
  }

  async function placeAll(target: Target, differences: readonly Difference[], by: 'policy' | 'request') {
    const repair: Repair = { orders: [], left: [] };
    // Before what is expected: an order that ends in between has changed that.
    const unfinished = (await Promise.all((await orders.unfinishedAt(target.id)).map(orders.get))).filter(
      (order) => order !== null,
    );
    const groups = await sortOut(target, differences, repair.left);
    for (const group of groups) {
      const { places } = group;
      const certificate = await certificates.get(group.certificate);
      const reason = hindrance(group, certificate, target.id, unfinished);
      if (certificate === null || reason !== null) {
        repair.left.push(...places.map((place) => ({ place, reason: reason ?? '' })));
        continue;
      }
      // Counted before it is there: a process that dies in between has used up one repair, and not made one that nobody counts.
      if (by === 'policy') await driftReports.addRepair(target.id, places, clock.now(), repairSpanMs);
      const { order } = await orders.place(await orderOf(certificate, group));
      repair.orders.push(order);
      metrics.driftRepairs.inc();
      log.info({ target: target.id, order: order.id, places, by }, `${target.name} is repaired`);
      await producer.enqueue(order).catch((error: unknown) => {
        log.warn({ err: error, order: order.id }, 'not enqueued: the reconciler will do it');
      });
    }
    return repair;
  }

  /** Takes out the places that were repaired often enough. */
  async function withinLimit(target: Target, differences: readonly Difference[], left: Repair['left']) {
    const repairs = await driftReports.repairs(target.id, clock.now() - repairSpanMs);
    const isSpent = ({ place, unrepairable }: Difference): boolean =>
      unrepairable === null && (repairs.get(place)?.length ?? 0) >= repairLimit;
    const spent = differences.filter(isSpent).map(({ place }) => place);
    if (spent.length > 0) {
      const reason = `repaired ${repairLimit} times within 24 hours and changed again`;
      log.warn({ target: target.id, places: spent }, `${target.name} is left as it is: ${reason}`);
      left.push(...spent.map((place) => ({ place, reason })));
    }
    return differences.filter((one) => !isSpent(one));
  }

  return {
    async place(target, { differences }, by) {
      if (differences.length === 0) return { orders: [], left: [] };
      const held = await leases.hold(`drift-repair.${target.id}`, leaseMs, async () => {
        const left: Repair['left'] = [];
        const open = by === 'policy' ? await withinLimit(target, differences, left) : differences;
        const repair = await placeAll(target, open, by);
        return { orders: repair.orders, left: [...repair.left, ...left] };
      });
      if (held !== null) return held.result;
      const reason = 'another repair is being placed at this moment';
      return { orders: [], left: differences.map(({ place }) => ({ place, reason })) };
    },
  };
}
