import { describeCertificate, splitChain } from '#libs/crypto/x509';
import { isFinal, type Order } from '#libs/model/order';
import type { OrderEvent } from '#libs/store/order-events';
import { createStore, type Store } from '#libs/store/store';
import type { CaOrder } from '../support/issuing-ca.ts';
import type { EndedOrder } from './kinds/kind.ts';
import { clients, places, proofs } from './kinds/kinds.ts';
import { servedBy, wrongOnHosts } from './kinds/site.ts';
import type { PlacedOrder } from './plan.ts';
import { type Recovery, recoveriesOf } from './recovery.ts';
import { leftOvers } from './rest.ts';
import { secretsFound } from './secrets.ts';
import type { Tally } from './tally.ts';
import type { World } from './world.ts';

/** What the three sides say in the end. */
export interface Audit {
  /** What is not as it must be, in words; empty when the sums agree. */
  wrong: string[];
  complete: number;
  failedAsTheyMust: number;
  /** Orders that were called off, by the stage they were in. */
  cancelled: Map<string, number>;
  retried: number;
  rollouts: number;
  certificates: number;
  acmeOrders: number;
  issuedTwice: number;
  lost: number;
  commits: number;
  deliveries: number;
  deploymentsRepeated: number;
  recoveries: Recovery[];
}

function stateOf({ status, error, attempts, nextAttemptAt, version }: Order): string {
  const reason = error ? ` (${error.code}: ${error.detail})` : '';
  return `${status}${reason}, version ${version}, attempts ${Object.values(attempts).join('/')}, next ${nextAttemptAt}`;
}

async function thumbprintOf(order: Order, { certificates }: Store): Promise<string | null> {
  const id = 'certificate' in order ? order.certificate : null;
  return id === null ? null : ((await certificates.get(id))?.thumbprint ?? null);
}

/** An ACME order that is used is known: another one is only made when the CA has given it up. */
function inUse({ name }: PlacedOrder, used: readonly CaOrder[]): string[] {
  const standing = used.filter(({ status }) => status !== 'invalid');
  if (standing.length <= 1) return [];
  const ids = standing.map(({ id, status }) => `${id} (${status})`).join(', ');
  return [`${name} used ${standing.length} ACME orders beside each other: ${ids}`];
}

/** Whether it ended as it had to, once, with the certificate that the CA issued for it, and no other. */
function wrongWith({ plan, order, end, thumbprint, events, atCa }: EndedOrder): string[] {
  const wrong: string[] = [];
  const check = (holds: boolean, words: string): void => {
    if (!holds) wrong.push(words);
  };
  const { name } = plan;
  const kind = clients[plan.client];
  const must = kind.endOf(plan);
  check(end === must, `${name} is ${stateOf(order)}, not ${must}`);

  const issued = atCa.flatMap(({ certificate }) => certificate ?? []);
  // What one that was called off has, its kind knows.
  const count = end === 'deployed' ? 1 : 0;
  check(end === 'cancelled' || issued.length === count, `the CA issued ${issued.length} certificates for ${name}`);
  if (issued[0] !== undefined && thumbprint !== null) {
    const theirs = describeCertificate(splitChain(issued[0])[0] ?? '').thumbprint;
    check(theirs === thumbprint, `${name} has the certificate ${thumbprint}, the CA issued ${theirs}`);
  }
  const done = events.filter(({ type }) => type === 'stage_completed').map(({ stage, epoch }) => `${stage} ${epoch}`);
  check(new Set(done).size === done.length, `${name} came through a stage twice: ${done.join(', ')}`);
  const ends = events.filter(({ type }) => ['order_completed', 'order_failed', 'order_cancelled'].includes(type));
  check(ends.length === kind.ends, `${name} ended ${ends.length} times`);
  return wrong;
}

const starts = (events: readonly OrderEvent[]): number =>
  events.filter(({ type, stage }) => type === 'stage_started' && stage === 'deployment').length;

export async function audit(world: World, placed: readonly PlacedOrder[], tally: Tally): Promise<Audit> {
  const store = createStore(world.connection, 'certline');
  const { ca, isUsed } = world.authority;
  const acmeOrders = Map.groupBy(ca.orders, ({ authorizations }) => String(authorizations[0]?.name));
  const wrong: string[] = [];
  const recoveries: Recovery[] = [];
  const all: EndedOrder[] = [];
  let deploymentsRepeated = 0;

  for (const plan of placed) {
    const order = await store.orders.get(plan.id);
    if (order === null || !isFinal(order)) {
      wrong.push(`${plan.name} is lost: ${order === null ? 'no record' : stateOf(order)}`);
      continue;
    }
    const atCa = acmeOrders.get(plan.name) ?? [];
    const events = await store.history(plan.id);
    const end = order.status === 'failed' ? order.error.code : order.status;
    const ended = { plan, order, end, thumbprint: await thumbprintOf(order, store), events, atCa };
    all.push(ended);
    wrong.push(...wrongWith(ended), ...inUse(plan, atCa.filter(isUsed)));

    recoveries.push(...recoveriesOf(events, tally, 'api'));
    const parts = order.deployments.flatMap((one) => one.order ?? []);
    const histories = await Promise.all(parts.map(store.history));
    for (const history of histories) recoveries.push(...recoveriesOf(history, tally, 'deployment-worker'));
    deploymentsRepeated += [events, ...histories].filter((history) => starts(history) > 1).length;
  }

  for (const [name, kind] of Object.entries(proofs))
    wrong.push(
      ...(await kind.audit(
        world,
        all.filter(({ plan }) => plan.proof === name),
      )),
    );
  for (const [name, kind] of Object.entries(places))
    wrong.push(
      ...(await kind.audit(
        world,
        all.filter(({ plan }) => plan.place === name),
      )),
    );
  for (const [name, kind] of Object.entries(clients))
    wrong.push(
      ...(await kind.audit(
        world,
        all.filter(({ plan }) => plan.client === name),
      )),
    );
  wrong.push(
    ...(await wrongOnHosts(
      world,
      all.flatMap((ended) => servedBy(world, ended)),
    )),
  );

  const known = await world.connection.zcard(store.keys.orders);
  if (known !== placed.length) wrong.push(`${placed.length} orders were accepted, ${known} are stored`);
  wrong.push(...(await leftOvers(world, store)).map((words) => `left behind: ${words}`));
  wrong.push(...(await secretsFound(world, placed, store)));
  wrong.push(...tally.ends.map((end) => `ended by itself: ${end}`));

  const cancelled = all.flatMap(({ order }) => (order.status === 'cancelled' ? [order.stage] : []));
  const certificatesOf = ({ atCa }: EndedOrder): number =>
    atCa.filter(({ certificate }) => certificate !== null).length;
  return {
    ...{ wrong, recoveries, deploymentsRepeated },
    complete: all.filter(({ end }) => end === 'deployed').length,
    failedAsTheyMust: all.filter(
      ({ plan, order, end }) => order.status === 'failed' && end === clients[plan.client].endOf(plan),
    ).length,
    cancelled: new Map([...Map.groupBy(cancelled, (stage) => stage)].map(([stage, { length }]) => [stage, length])),
    retried: all.filter(({ events }) => events.some(({ type }) => type === 'order_retried')).length,
    rollouts: all.filter(({ order }) => order.deployments.length > 0).length,
    certificates: ca.orders.filter(({ certificate }) => certificate !== null).length,
    acmeOrders: ca.orders.length,
    issuedTwice: all.filter((ended) => certificatesOf(ended) > 1).length,
    lost: placed.length - all.length,
    commits: await commitsOf(world),
    deliveries: world.receiver.deliveries.length,
  };
}

async function commitsOf({ hosts }: World): Promise<number> {
  const logs = await Promise.all(hosts.map(async ({ url }) => (await fetch(`${url}/log`)).json()));
  return (logs as { count: number }[]).reduce((sum, { count }) => sum + count, 0);
}
