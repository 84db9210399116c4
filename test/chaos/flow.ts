import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '#libs/clock';
import { createStore } from '#libs/store/store';
import { type Client, createClient } from './client.ts';
import type { ClientKind, ProofKind } from './kinds/kind.ts';
import { clients, places, proofs } from './kinds/kinds.ts';
import type { PlacedOrder, PlannedOrder } from './plan.ts';
import type { Tally } from './tally.ts';
import type { World } from './world.ts';

/** What is sent to order a certificate. */
function orderBody(world: World, plan: PlannedOrder): Record<string, unknown> {
  return {
    ...{ names: [plan.name], account: world.account, key: { type: 'ec-p256' } },
    challenge: proofs[plan.proof].challenge(world, plan),
    deploy: places[plan.place].deploy(world, plan),
  };
}

/** Sends an order as a client does that wants it once. */
function send(world: World, plan: PlannedOrder, client: Client): ReturnType<Client['ask']> {
  const key = { 'idempotency-key': `chaos-${plan.number}` };
  return client.ask('POST', '/v1/orders', orderBody(world, plan), key);
}

/** Answers the id of the order. Throws when it is refused. */
async function place(world: World, plan: PlannedOrder, client: Client): Promise<string> {
  const { status, body } = await send(world, plan, client);
  if (status !== 202) throw new Error(`the API refuses ${plan.name}: ${status} ${JSON.stringify(body)}`);
  return String(body.id);
}

/** The orders of a run, with the clients and people behind them. */
export interface Flow {
  /** Settles when all are accepted. Rejects when one is not. */
  accepted: Promise<readonly PlacedOrder[]>;
  /** Clients and people who are not done with their orders. */
  busy(): number;
  /** Has those give up who are not done. */
  stop(): Promise<void>;
}

/** Places all orders, each at its time, and does for them what their kinds say. */
export function startFlow(world: World, plans: readonly PlannedOrder[], tally: Tally): Flow {
  const stopping = new AbortController();
  const { signal } = stopping;
  const client = createClient(world.api, tally, signal);
  const store = createStore(world.connection, 'certline');
  const start = systemClock.now();
  const acting = new Set<Promise<void>>();

  function act(placed: PlacedOrder): void {
    const wait = async (ms: number): Promise<void> => {
      await delay(ms, null, { signal });
    };
    const open = { world, plan: placed, client, store, wait, placeAgain: () => send(world, placed, client) };
    const [person, asker]: [ProofKind, ClientKind] = [proofs[placed.proof], clients[placed.client]];
    const all = Promise.all([
      person.act?.(open),
      asker.act?.(open).then((told) => {
        placed.told = told;
      }),
    ]);
    const done = all.then(
      () => {},
      (error: unknown) => {
        placed.told ??= `nothing: ${String(error)}`;
      },
    );
    acting.add(done);
    void done.finally(() => acting.delete(done));
  }

  const accepted = Promise.all(
    plans.map(async (plan) => {
      await delay(Math.max(0, start + plan.afterMs - systemClock.now()));
      const placed: PlacedOrder = { ...plan, id: await place(world, plan, client), told: null };
      act(placed);
      return placed;
    }),
  );
  return {
    accepted,
    busy: () => acting.size,
    async stop() {
      stopping.abort();
      await Promise.all(acting);
    },
  };
}
