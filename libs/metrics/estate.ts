import { Gauge, type Registry } from 'prom-client';
import type { Clock } from '../clock.ts';
import { driftStates } from '../model/drift.ts';
import { orderStatuses } from '../model/order.ts';

/** What the gauges of the estate are read from: the store and the queues fit it. */
export interface Estate {
  countOrders(status: (typeof orderStatuses)[number]): Promise<number>;
  countExpiring(from: number, to: number): Promise<number>;
  nextExpiry(now: number): Promise<number | null>;
  countRenewalDue(now: number): Promise<number>;
  /** Names of all queues: the stages, deployment once for each pool of targets. */
  queueNames(): Promise<string[]>;
  queueCounts(queue: string): Promise<Record<string, number>>;
  /** When the oldest waiting job was added, ms since the epoch; null when none waits. */
  oldestJob(queue: string): Promise<number | null>;
  countTargets(): Promise<number>;
  /** Targets whose last look found a state. */
  countDrift(state: (typeof driftStates)[number]): Promise<number>;
  /** Places of targets that are not as they should be. */
  countDriftedPlaces(): Promise<number>;
  countAccounts(): Promise<number>;
  countCredentials(): Promise<number>;
  /** Those whose orders are held until somebody mends them. */
  countParkedAccounts(): Promise<number>;
  countParkedCredentials(): Promise<number>;
  /** Whether a worker has said in the last minute that it takes the jobs of the queue. */
  isServed(queue: string): Promise<boolean>;
}

const day = 86_400_000;
const horizons = {
  '1d': day,
  '3d': 3 * day,
  '7d': 7 * day,
  '14d': 14 * day,
  '30d': 30 * day,
};

function setStates(gauge: Gauge<'state'>, all: number, parked: number): void {
  gauge.set({ state: 'ok' }, Math.max(0, all - parked));
  gauge.set({ state: 'parked' }, parked);
}

/** Gauges of the whole estate, read when scraped. One process (the scheduler) serves them, so that sums do not count twice. */
export function registerEstateMetrics(registry: Registry, estate: Estate, clock: Clock): void {
  const registers = [registry];
  const gauge = <L extends string>(
    name: string,
    help: string,
    labelNames: L[],
    collect: (gauge: Gauge<L>) => Promise<void>,
  ): void => {
    new Gauge({
      name: `certline_${name}`,
      help,
      labelNames,
      registers,
      async collect() {
        await collect(this);
      },
    });
  };

  gauge('orders', 'Orders by status.', ['status'], async (orders) => {
    for (const status of orderStatuses) orders.set({ status }, await estate.countOrders(status));
  });
  gauge('queue_jobs', 'Jobs by queue and BullMQ state.', ['queue', 'state'], async (jobs) => {
    const queues = await estate.queueNames();
    const counts = await Promise.all(queues.map(async (queue) => ({ queue, states: await estate.queueCounts(queue) })));
    // A pool without targets is gone from the next answer on.
    jobs.reset();
    for (const { queue, states } of counts)
      for (const [state, count] of Object.entries(states)) jobs.set({ queue, state }, count);
  });
  gauge('queue_oldest_job_age_seconds', 'Age of the oldest waiting job; 0 when none waits.', ['queue'], async (age) => {
    const queues = await estate.queueNames();
    const oldest = await Promise.all(queues.map(async (queue) => ({ queue, added: await estate.oldestJob(queue) })));
    age.reset();
    for (const { queue, added } of oldest) age.set({ queue }, added === null ? 0 : (clock.now() - added) / 1000);
  });
  gauge(
    'queue_served',
    '1 while a worker takes the jobs of the queue, 0 when none has for a minute.',
    ['queue'],
    async (served) => {
      const queues = await estate.queueNames();
      const answers = await Promise.all(queues.map(async (queue) => ({ queue, is: await estate.isServed(queue) })));
      served.reset();
      for (const { queue, is } of answers) served.set({ queue }, is ? 1 : 0);
    },
  );
  gauge('targets', 'Targets by what the last look at them found.', ['drift'], async (targets) => {
    let unchecked = await estate.countTargets();
    for (const drift of driftStates) {
      const count = await estate.countDrift(drift);
      targets.set({ drift }, count);
      unchecked -= count;
    }
    targets.set({ drift: 'unchecked' }, Math.max(0, unchecked));
  });
  gauge('drifted_places', 'Places of all targets that are not as they should be.', [], async (places) => {
    places.set(await estate.countDriftedPlaces());
  });
  gauge('accounts', 'Accounts; `parked`: the CA refuses it, and its orders are held.', ['state'], async (accounts) => {
    setStates(accounts, await estate.countAccounts(), await estate.countParkedAccounts());
  });
  gauge(
    'credentials',
    'Credentials; `parked`: the DNS provider refuses it, and its orders are held.',
    ['state'],
    async (credentials) => {
      setStates(credentials, await estate.countCredentials(), await estate.countParkedCredentials());
    },
  );
  gauge('certificates_expiring', 'Certificates that end within a time from now.', ['within'], async (expiring) => {
    const now = clock.now();
    for (const [within, ms] of Object.entries(horizons))
      expiring.set({ within }, await estate.countExpiring(now, now + ms));
  });
  gauge(
    'certificate_min_expiry_seconds',
    'Time until the next certificate ends; absent when there is none.',
    [],
    async (expiry) => {
      const now = clock.now();
      const next = await estate.nextExpiry(now);
      if (next === null) expiry.remove();
      else expiry.set((next - now) / 1000);
    },
  );
  gauge('renewals_overdue', 'Certificates past the time they ought to be renewed.', [], async (overdue) => {
    overdue.set(await estate.countRenewalDue(clock.now()));
  });
}
