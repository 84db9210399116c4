import { systemClock } from '#libs/clock';
import { caLimitTable } from '#libs/model/ca-limits';
import type { Resources } from '#libs/service/resources';
import { createBulkRetryRounds } from '../scheduler/bulk-retries.ts';
import { createBudgetReader } from '../scheduler/ca-budgets.ts';
import { createDriftRounds } from '../scheduler/drift-schedule.ts';
import { createHeldOrdersRounds } from '../scheduler/held-orders.ts';
import { createQueueNames } from '../scheduler/queue-names.ts';
import { reconcile } from '../scheduler/reconciler.ts';
import { createCleanUp } from '../validation-worker/clean-up.ts';
import { percentile } from './bench-load.ts';
import type { Estate } from './estate.ts';

/** Something whose time is measured. */
export interface Look {
  readonly name: string;
  run(): Promise<unknown>;
  /** Before each run, outside of its time. */
  prepare?(): Promise<unknown>;
  /** How many times more it may take in the largest estate than in the smallest, if it is meant to take no longer. */
  readonly limit?: number;
}

/** Runs before the clock runs, so that the code is compiled, and runs that count. */
const runs = { warmUp: 20, measured: 31 };

/** Milliseconds of the run in the middle of each of some looks, which take turns. */
export async function timesOf(looks: readonly Look[]): Promise<number[]> {
  const times = looks.map((): number[] => []);
  for (let count = 0; count < runs.warmUp + runs.measured; count += 1) {
    for (const [at, { run, prepare }] of looks.entries()) {
      await prepare?.();
      const begun = performance.now();
      await run();
      times[at]?.push(performance.now() - begun);
    }
  }
  return times.map((ofOne) => percentile(ofOne.slice(runs.warmUp), 0.5));
}

const limit = 2;

/** Pages and records as a client of the API gets them. */
export function apiLooks(url: string, apiKey: string, { certificates }: Estate): Look[] {
  const headers = { authorization: `Bearer ${apiKey}` };
  async function get(path: string): Promise<{ items: { id: string; createdAt: string }[] }> {
    const answer = await fetch(`${url}${path}`, { headers });
    if (!answer.ok) throw new Error(`GET ${path} answers ${answer.status}: ${await answer.text()}`);
    return (await answer.json()) as { items: { id: string; createdAt: string }[] };
  }
  const middle = certificates[Math.floor(certificates.length / 2)];
  // Orders are up to 60 days old: a cursor is a time and an id.
  const cursor = `${systemClock.now() - 30 * 86_400_000}.ord_`;
  const looks: Record<string, string> = {
    '50 orders, first page': '/v1/orders?limit=50',
    '50 orders in the middle': `/v1/orders?limit=50&cursor=${cursor}`,
    '50 orders by status': '/v1/orders?limit=50&status=deployed',
    // The smallest estate has no more.
    '10 failed orders': '/v1/orders?limit=10&status=failed',
    '10 failed orders by code': '/v1/orders?limit=10&status=failed&code=ca_wrong_answer',
    '3 failed orders by code and account': '/v1/orders?limit=3&status=failed&code=ca_wrong_answer&account=acc_estate1',
    'orders of a name': `/v1/orders?limit=50&name=${middle?.names[0]}`,
    '50 certificates, first page': '/v1/certificates?limit=50',
    '50 certificates in the middle': `/v1/certificates?limit=50&cursor=${cursor.replace('ord_', 'crt_')}`,
    'one certificate': `/v1/certificates/${middle?.id}`,
    'one order': `/v1/orders/${middle?.id.replace(/^crt_(.*)_\d+$/, 'ord_$1')}`,
  };
  return Object.entries(looks).map(([name, path]) => ({ name: `GET ${name}`, limit, run: () => get(path) }));
}

/** The rounds of scheduler and clean-up, as their services build them, when there is nothing for them to do. */
export function idleLooks(resources: Resources): Look[] {
  const { store, producer, clock, log } = resources;
  const { orders, leases, accounts, credentials } = store;
  const held = { accounts, credentials, orders, producer, clock, log };
  const drift = { schedule: store.driftSchedule, findTarget: store.targets.get, producer, clock, log };
  const newRounds = () => createDriftRounds({ ...drift, intervalMs: 6 * 3_600_000, random: Math.random });
  const rounds = newRounds();
  const remove = async (): Promise<void> => {};
  const cleanUp = createCleanUp({ cleanUps: store.cleanUps, remove, clock, log });
  const idle = new AbortController().signal;
  const bulk = { bulkRetries: store.bulkRetries, orders, producer, clock, log, perMinute: 120, random: Math.random };
  const budgets = createBudgetReader(store.caBudget, caLimitTable(undefined));
  return [
    { name: 'tick: reconciler', limit, run: () => reconcile({ orders, producer, leases, clock, log }) },
    // This, and the sweep of targets, come once a minute, and when the rounds are made anew.
    { name: 'tick: held orders', limit, run: () => createHeldOrdersRounds(held)() },
    { name: 'tick: bulk retries', limit, run: createBulkRetryRounds(bulk) },
    { name: 'tick: drift', limit, run: rounds },
    { name: 'tick: drift, sweep of targets', run: () => newRounds()() },
    { name: 'tick: clean-up', limit, run: () => cleanUp(idle) },
    { name: 'tick: CA budgets', limit, run: budgets },
    { name: 'tick: pools of targets', run: createQueueNames(store.targets) },
  ];
}

/** The same with one order of a hundred due, and one target. What is due is to grow with the estate, up to what one round takes. */
export function dueLooks({ store, producer, clock, log }: Resources, { open }: Estate): Look[] {
  const { orders, leases, targets, driftSchedule: schedule } = store;
  const makeDue = (at: number) => Promise.all(open.map((id) => orders.lookAgain(id, at)));
  const drift = createDriftRounds({
    ...{ schedule, findTarget: targets.get, producer, clock, log },
    ...{ intervalMs: 6 * 3_600_000, random: Math.random },
  });
  return [
    {
      name: 'tick: reconciler, 1% due',
      prepare: () => makeDue(clock.now() - 1),
      run: () => reconcile({ orders, producer, leases, clock, log }),
    },
    { name: 'tick: drift, a target due', prepare: () => schedule.put('tgt_estate1', 0), run: drift },
  ];
}

/** What is written for a new order. */
export function writingLooks(estate: Estate): Look[] {
  return [{ name: 'an order through the store', limit, run: estate.addOne }];
}
