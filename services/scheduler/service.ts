import type { Config } from '#libs/config';
import { registerCaBudgetMetric } from '#libs/metrics/ca-budget';
import { registerEstateMetrics } from '#libs/metrics/estate';
import { registerMasterKeyMetric } from '#libs/metrics/master-keys';
import { caLimitTable } from '#libs/model/ca-limits';
import type { Resources } from '#libs/service/resources';
import { startRounds } from '#libs/service/rounds';
import type { Service } from '#libs/service/run';
import { createBulkRetryRounds } from './bulk-retries.ts';
import { createBudgetReader } from './ca-budgets.ts';
import { createDriftRounds } from './drift-schedule.ts';
import { createHeldOrdersRounds } from './held-orders.ts';
import { createQueueNames } from './queue-names.ts';
import { reconcile } from './reconciler.ts';

export const sections = ['pipeline', 'scheduler', 'ca'] as const;

/** The lease of a process that died is free after this: with the reconciler's grace and a round an order then waits for 12 s, not more. */
const leaseMs = 5_000;

/** Starts the scheduler: the reconciler's rounds and those of the looks at targets, one process at a time, and the gauges of the estate. */
export function startScheduler(resources: Resources, config: Config<(typeof sections)[number]>): Service {
  const { store, producer, clock, log, metrics } = resources;
  const { orders, certificates, leases, driftReports } = store;
  const estate = {
    countOrders: orders.count,
    countExpiring: certificates.countExpiring,
    nextExpiry: certificates.nextExpiry,
    countRenewalDue: certificates.countRenewalDue,
    queueNames: createQueueNames(store.targets),
    queueCounts: producer.counts,
    oldestJob: producer.oldestWaiting,
    isServed: producer.isServed,
    countTargets: store.targets.count,
    countDrift: driftReports.count,
    countDriftedPlaces: driftReports.countPlaces,
    countAccounts: store.accounts.count,
    countCredentials: store.credentials.count,
    countParkedAccounts: store.accounts.countParked,
    countParkedCredentials: store.credentials.countParked,
  };
  registerEstateMetrics(metrics.registry, estate, clock);
  registerMasterKeyMetric(metrics.registry, store.masterKeys.left);
  registerCaBudgetMetric(metrics.registry, createBudgetReader(store.caBudget, caLimitTable(config.CA_LIMITS)));

  const lookForDrift = createDriftRounds({
    ...{ schedule: store.driftSchedule, findTarget: store.targets.get, producer, clock, log },
    ...{ intervalMs: config.DRIFT_CHECK_MINUTES * 60_000, random: Math.random },
  });
  const { accounts, credentials } = store;
  const letHeldOrdersGo = createHeldOrdersRounds({ accounts, credentials, orders, producer, clock, log });
  const retryInBulk = createBulkRetryRounds({
    ...{ bulkRetries: store.bulkRetries, orders, producer, clock, log },
    ...{ perMinute: config.BULK_RETRY_PER_MINUTE, random: Math.random },
  });
  const round = async (): Promise<void> => {
    await reconcile({ orders, producer, leases, clock, log });
    await letHeldOrdersGo();
    await retryInBulk();
    await lookForDrift();
  };
  return startRounds(() => leases.hold('reconciler', leaseMs, round), {
    ...{ clock, log, what: 'the reconciler', everyMs: config.RECONCILE_INTERVAL_MS },
  });
}
