import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { diceOf } from '../support/dice.ts';
import { badRequestName, doubtedName, refusedName } from './authority.ts';
import type { World } from './world.ts';
import { zoneName } from './zone.ts';

/** An order that is to be placed, and what must become of it. */
export interface PlannedOrder {
  number: number;
  name: string;
  /** Index of the host, and the site there. */
  host: number;
  site: number;
  challenge: 'http-01' | 'dns-01';
  /** How long after the start it is placed, ms. */
  afterMs: number;
  /** The code that it must fail with; null when it must be deployed. */
  fails: 'identifier_rejected' | 'csr_rejected' | null;
  /** Whether the client asks again after it was told of the order. */
  repeated: boolean;
}

export interface PlacedOrder extends PlannedOrder {
  id: string;
}

/** The orders that a seed stands for. The first three are one of each kind that the CA does not like. */
export function planOrders(seed: number, count: number, hosts: number, spanMs: number): PlannedOrder[] {
  const dice = diceOf(seed, 'orders');
  const sites = Array.from({ length: hosts }, () => 0);
  const plans: PlannedOrder[] = [];
  for (let number = 1; number <= count; number += 1) {
    const kinds = [refusedName, badRequestName, doubtedName] as const;
    const kind = kinds[number - 1] ?? (dice.chance(0.1) ? dice.pick(kinds) : '');
    const host = Math.floor(dice.between(0, hosts));
    const site = (sites[host] ?? 0) + 1;
    sites[host] = site;
    plans.push({
      ...{ number, host, site, name: `${kind}o${number}.${zoneName}` },
      challenge: dice.chance(0.6) ? 'http-01' : 'dns-01',
      afterMs: dice.between(0, spanMs),
      fails: kind === refusedName ? 'identifier_rejected' : kind === badRequestName ? 'csr_rejected' : null,
      repeated: dice.chance(0.15),
    });
  }
  return plans;
}

/** The names of the sites of each host. */
export const sitesOf = (plans: readonly PlannedOrder[], hosts: number): string[][] =>
  Array.from({ length: hosts }, (_, host) => plans.filter((plan) => plan.host === host).map(({ name }) => name));

const againMs = 300;
/** A client gives up waiting, and asks again. */
const patienceMs = 10_000;
const repeatable = (status: number): boolean => status >= 500 || status === 429;

/** Places an order as a client does that wants it once: again under its key until the API has answered. Throws on any other refusal. */
async function place(world: World, plan: PlannedOrder): Promise<string> {
  const { number, name, challenge, site } = plan;
  const body = {
    ...{ names: [name], account: world.account, key: { type: 'ec-p256' } },
    challenge: challenge === 'dns-01' ? { type: challenge, credential: world.credential } : { type: challenge },
    deploy: { mode: 'site', target: world.hosts[plan.host]?.target, site },
  };
  for (;;) {
    const asking = world.api.request('POST', '/v1/orders', body, { 'idempotency-key': `chaos-${number}` });
    const late = delay(patienceMs, null, { ref: false });
    const answer = await Promise.race([asking.catch(() => null), late]);
    if (answer?.status === 202) return String(answer.body.id);
    if (answer && !repeatable(answer.status))
      throw new Error(`the API refuses ${name}: ${answer.status} ${JSON.stringify(answer.body)}`);
    await delay(againMs);
  }
}

/** Places all orders, each at its time. Throws when a repeated request made another order. */
export function placeOrders(world: World, plans: readonly PlannedOrder[]): Promise<PlacedOrder[]> {
  const start = systemClock.now();
  return Promise.all(
    plans.map(async (plan) => {
      await delay(Math.max(0, start + plan.afterMs - systemClock.now()));
      const id = await place(world, plan);
      if (plan.repeated) {
        const again = await place(world, plan);
        if (again !== id) throw new Error(`${plan.name} was placed twice: ${id} and ${again}`);
      }
      return { ...plan, id };
    }),
  );
}
