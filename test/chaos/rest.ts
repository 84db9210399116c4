import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { isFinal, isWindingDown } from '#libs/model/order';
import { stages } from '#libs/queues/stages';
import type { Keys } from '#libs/store/keys';
import { createStore, type Store } from '#libs/store/store';
import type { Flow } from './flow.ts';
import type { PlacedOrder } from './plan.ts';
import type { World } from './world.ts';

const lookMs = 250;
/** However much is still to move: what takes this long has not recovered, ms. */
const longestMs = 400_000;
/** BullMQ keeps when a delayed job is due in the upper bits of its score. */
const dueOf = (score: string | undefined): number => Number(score ?? 0) / 0x1000;

/** Jobs that wait or are run, and those of orders that wait for their time: a delayed deployment is a target's. */
async function jobsLeft({ connection }: World, { tag }: Keys): Promise<number> {
  const lists = Object.keys(stages).flatMap((queue) => [`${tag}:${queue}:wait`, `${tag}:${queue}:active`]);
  const delayed = ['validation', 'issuance'].map((queue) => connection.zcard(`${tag}:${queue}:delayed`));
  const counts = await Promise.all([...lists.map((list) => connection.llen(list)), ...delayed]);
  return counts.reduce((sum, count) => sum + count, 0);
}

/** What is only there for orders that have not ended, and how much of it there is; empty when there is nothing. */
export async function leftOvers(world: World, { keys, cleanUps }: Pick<Store, 'keys' | 'cleanUps'>): Promise<string[]> {
  const { connection } = world;
  const counted: [what: string, pattern: string][] = [
    ['answers to http-01', keys.challenge('*')],
    ['wishes for answers', keys.written('*')],
    ['listeners', keys.challengeListener('*', '*')],
    ['commits that nobody has verified', keys.undo('*')],
    ['lists of orders to deploy', keys.dueOrders('*')],
    ['lists of orders of a target', keys.targetOrders('*')],
    ['lists of orders of a credential', keys.credentialOrders('*')],
    ['lists of orders that are held', keys.parkedOrders('*')],
  ];
  const counts = await Promise.all(counted.map(async ([, pattern]) => (await connection.keys(pattern)).length));
  const all: [what: string, count: number][] = [
    ...counted.map(([what], at): [string, number] => [what, counts[at] ?? 0]),
    ['unfinished orders', await connection.zcard(keys.openOrders)],
    ['records and files to be taken away', await cleanUps.count()],
    ['jobs in the queues', await jobsLeft(world, keys)],
  ];
  return all.filter(([, count]) => count > 0).map(([what, count]) => `${what}: ${count}`);
}

/** When the next delayed job is due, ms since the epoch; 0 without one. */
async function nextJobAt({ connection }: World, { tag }: Keys): Promise<number> {
  const lists = Object.keys(stages).map((queue) => `${tag}:${queue}:delayed`);
  const first = await Promise.all(lists.map((list) => connection.zrange(list, '0', '0', 'WITHSCORES')));
  return Math.min(
    ...first.flatMap(([, score]) => (score === undefined ? [] : [dueOf(score)])),
    Number.MAX_SAFE_INTEGER,
  );
}

/**
 * What an order that was called off has written is looked for a second time ten minutes later, since a worker may have been writing. Nobody is
 * any more: the look may be now.
 */
async function lookAgainNow({ cleanUps }: Store, seen: Set<string>): Promise<void> {
  for (const one of await cleanUps.due(Number.MAX_SAFE_INTEGER, 1_000)) {
    const text = JSON.stringify(one);
    if (!seen.has(text)) await cleanUps.putOff(one, 0);
    seen.add(text);
  }
}

/**
 * Waits until every order has ended, its client is done with it, and nothing is left behind; gives up when nothing has moved for `patienceMs` and
 * nothing is to move later.
 */
export async function untilAtRest(
  world: World,
  placed: readonly PlacedOrder[],
  flow: Pick<Flow, 'busy'>,
  patienceMs: number,
): Promise<void> {
  const store = createStore(world.connection, 'certline');
  const brought = new Set<string>();
  let before = '';
  let since = systemClock.now();
  const start = since;
  for (;;) {
    const all = await Promise.all(placed.map(({ id }) => store.orders.get(id)));
    const ended = all.every((order) => order !== null && isFinal(order) && !isWindingDown(order)) && flow.busy() === 0;
    if (ended) await lookAgainNow(store, brought);
    const left = await leftOvers(world, store);
    if (ended && left.length === 0) return;
    const now = `${left.join()} ${flow.busy()} ${all.map((order) => order?.version).join()}`;
    const job = await nextJobAt(world, store.keys);
    const next = Math.max(job === Number.MAX_SAFE_INTEGER ? 0 : job, ...all.map((order) => order?.nextAttemptAt ?? 0));
    if (now !== before || next > systemClock.now()) since = systemClock.now();
    if (systemClock.now() - since > patienceMs || systemClock.now() - start > longestMs) return;
    before = now;
    await delay(lookMs);
  }
}
