import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { describeCertificate, splitChain } from '#libs/crypto/x509';
import { probeThumbprint } from '#libs/iis/handshake';
import { labStateSchema } from '#libs/iis/lab-protocol';
import { isFinal, type Order } from '#libs/model/order';
import { stages } from '#libs/queues/stages';
import type { Keys } from '#libs/store/keys';
import { createStore, type Store } from '#libs/store/store';
import { never, txtAt } from '../support/dns-providers.ts';
import type { CaOrder } from '../support/issuing-ca.ts';
import type { PlacedOrder } from './flow.ts';
import { type Recovery, recoveriesOf } from './recovery.ts';
import { secretsFound } from './secrets.ts';
import type { Tally } from './tally.ts';
import type { World } from './world.ts';

/** What the three sides say in the end. */
export interface Audit {
  /** What is not as it must be, in words; empty when the sums agree. */
  wrong: string[];
  complete: number;
  failedAsTheyMust: number;
  certificates: number;
  acmeOrders: number;
  issuedTwice: number;
  lost: number;
  commits: number;
  deploymentsRepeated: number;
  recoveries: Recovery[];
}

const lookMs = 250;

/** Waits until every order has ended; gives up when nothing has moved for `patienceMs` and nothing is to move later. */
export async function untilAtRest(world: World, placed: readonly PlacedOrder[], patienceMs: number): Promise<void> {
  const { orders, cleanUps, keys } = createStore(world.connection, 'certline');
  let before = '';
  let since = systemClock.now();
  for (;;) {
    const all = await Promise.all(placed.map(({ id }) => orders.get(id)));
    const left = (await cleanUps.count()) + (await jobsLeft(world, keys));
    if (left === 0 && all.every((order) => order !== null && isFinal(order))) return;
    const now = `${left} ${all.map((order) => order?.version).join()}`;
    const next = Math.max(0, ...all.map((order) => order?.nextAttemptAt ?? 0));
    if (now !== before || next > systemClock.now()) since = systemClock.now();
    if (systemClock.now() - since > patienceMs) return;
    before = now;
    await delay(lookMs);
  }
}

/** Jobs that wait or are run; what waits for its time is no order's, when all orders have ended. */
async function jobsLeft({ connection }: World, { tag }: Keys): Promise<number> {
  const lists = Object.keys(stages).flatMap((queue) => [`${tag}:${queue}:wait`, `${tag}:${queue}:active`]);
  const counts = await Promise.all(lists.map((list) => connection.llen(list)));
  return counts.reduce((sum, count) => sum + count, 0);
}

export async function audit(world: World, placed: readonly PlacedOrder[], tally: Tally): Promise<Audit> {
  const store = createStore(world.connection, 'certline');
  const wrong: string[] = [];
  const check = (holds: boolean, words: string): void => {
    if (!holds) wrong.push(words);
  };
  const { ca, isUsed } = world.authority;
  const acmeOrders = Map.groupBy(ca.orders, ({ authorizations }) => String(authorizations[0]?.name));
  const recoveries: Recovery[] = [];
  const sums = { complete: 0, failedAsTheyMust: 0, issuedTwice: 0, lost: 0, deploymentsRepeated: 0 };
  const due = new Map<string, string>();

  for (const plan of placed) {
    const order = await store.orders.get(plan.id);
    const atCa = acmeOrders.get(plan.name) ?? [];
    if (order === null || !isFinal(order)) {
      sums.lost += 1;
      wrong.push(`${plan.name} is lost: ${order === null ? 'no record' : stateOf(order)}`);
      continue;
    }
    const end = order.status === 'failed' ? (order.error?.code ?? 'failed') : order.status;
    check(end === (plan.fails ?? 'deployed'), `${plan.name} is ${stateOf(order)}, not ${plan.fails ?? 'deployed'}`);
    if (end === plan.fails) sums.failedAsTheyMust += 1;
    if (end === 'deployed') sums.complete += 1;

    const issued = atCa.filter(({ certificate }) => certificate !== null);
    if (issued.length > 1) sums.issuedTwice += 1;
    check(issued.length === (plan.fails ? 0 : 1), `the CA issued ${issued.length} certificates for ${plan.name}`);
    wrong.push(...inUse(plan, atCa.filter(isUsed)));
    const thumbprint = await thumbprintOf(order, store);
    if (issued[0]) {
      const theirs = describeCertificate(splitChain(issued[0].certificate ?? '')[0] ?? '').thumbprint;
      check(theirs === thumbprint, `${plan.name} has the certificate ${thumbprint}, the CA issued ${theirs}`);
    }
    if (thumbprint !== null) due.set(plan.name, thumbprint);

    const events = await store.history(plan.id);
    recoveries.push(...recoveriesOf(events, tally));
    const started = events.filter(({ type, stage }) => type === 'stage_started' && stage === 'deployment').length;
    if (started > 1) sums.deploymentsRepeated += 1;
    const done = events.filter(({ type }) => type === 'stage_completed').map(({ stage, epoch }) => `${stage} ${epoch}`);
    check(new Set(done).size === done.length, `${plan.name} came through a stage twice: ${done.join(', ')}`);
    const ends = events.filter(({ type }) => type === 'order_completed' || type === 'order_failed');
    check(ends.length === 1, `${plan.name} ended ${ends.length} times`);
    if (plan.challenge === 'dns-01') {
      const left = await txtAt(world.zone.nameServer, `_acme-challenge.${plan.name}`);
      check(left.length === 0, `TXT records are left for ${plan.name}`);
    }
  }

  const known = await world.connection.zcard(store.keys.orders);
  check(known === placed.length, `${placed.length} orders were accepted, ${known} are stored`);
  const answers = await world.connection.keys(store.keys.challenge('*'));
  check(answers.length === 0, `${answers.length} answers to http-01 are left`);
  const cleanUps = await store.cleanUps.count();
  check(cleanUps === 0, `${cleanUps} TXT records are still to be taken away`);
  const jobs = await jobsLeft(world, store.keys);
  check(jobs === 0, `${jobs} jobs are left in the queues`);
  const commits = await checkHosts(world, placed, due, wrong);
  wrong.push(...(await secretsFound(world, placed, store)));
  wrong.push(...tally.ends.map((end) => `ended by itself: ${end}`));

  const certificates = ca.orders.filter(({ certificate }) => certificate !== null).length;
  return { wrong, ...sums, certificates, acmeOrders: ca.orders.length, commits, recoveries };
}

function stateOf({ status, error, attempts, nextAttemptAt, version }: Order): string {
  const reason = error ? ` (${error.code}: ${error.detail})` : '';
  return `${status}${reason}, version ${version}, attempts ${Object.values(attempts).join('/')}, next ${nextAttemptAt}`;
}

/** An ACME order that is used is known: another one is only made when the CA has given it up. */
function inUse({ name }: PlacedOrder, used: readonly CaOrder[]): string[] {
  const standing = used.filter(({ status }) => status !== 'invalid');
  if (standing.length <= 1) return [];
  const ids = standing.map(({ id, status }) => `${id} (${status})`).join(', ');
  return [`${name} used ${standing.length} ACME orders beside each other: ${ids}`];
}

async function thumbprintOf(order: Order, { certificates }: Store): Promise<string | null> {
  const id = 'certificate' in order ? order.certificate : null;
  return id === null ? null : ((await certificates.get(id))?.thumbprint ?? null);
}

/** Every binding is as planned and serves its certificate, and there is no other. Answers how many commits there were. */
async function checkHosts(
  { hosts }: World,
  placed: readonly PlacedOrder[],
  due: ReadonlyMap<string, string>,
  wrong: string[],
): Promise<number> {
  let commits = 0;
  for (const [index, { url, part }] of hosts.entries()) {
    const { sites, endpoints } = labStateSchema.parse(await (await fetch(`${url}/state`)).json());
    const { count } = (await (await fetch(`${url}/log`)).json()) as { count: number };
    commits += count;
    const https = sites.flatMap(({ id, bindings }) =>
      bindings
        .filter(({ protocol }) => protocol === 'https')
        .map((one) => `site ${id} ${one.bindingInformation} ${one.sslFlags} ${one.thumbprint}`),
    );
    const wanted = placed
      .filter(({ host, name }) => host === index && due.has(name))
      .map(({ site, name }) => `site ${site} *:443:${name} 1 ${due.get(name)}`);
    for (const binding of https) if (!wanted.includes(binding)) wrong.push(`${part.name} has ${binding}, not planned`);
    for (const binding of wanted) if (!https.includes(binding)) wrong.push(`${part.name} has not ${binding}`);
    const endpoint = endpoints.find(({ port }) => port === 443);
    for (const { host, name } of placed) {
      const thumbprint = due.get(name);
      if (host !== index || !endpoint || thumbprint === undefined) continue;
      const place = { host: endpoint.host, port: endpoint.listeningPort };
      const served = (await probeThumbprint(place, name, 10_000, never)).thumbprint;
      if (served !== thumbprint) wrong.push(`${part.name} serves ${served} for ${name}, not ${thumbprint}`);
    }
  }
  return commits;
}
