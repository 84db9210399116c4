import type { StageName } from '#libs/model/order';
import { type Dice, diceOf } from '../support/dice.ts';
import { badRequestName, doubtedName, refusedName } from './authority.ts';
import { type ClientName, clients, type PlaceName, type ProofName, places, proofs } from './kinds/kinds.ts';
import { zoneName } from './zone.ts';

/** What the CA thinks of a name: it takes it, refuses it, refuses the request for its certificate, or doubts it once. */
type Mind = 'takes' | 'refuses' | 'refuses request' | 'doubts';

/** An order that is to be placed. What must become of it follows from this, and from what its client was told. */
export interface PlannedOrder {
  number: number;
  name: string;
  /** How long after the start it is placed, ms. */
  afterMs: number;
  /** How the name is proved, where the certificate goes, what the client does: see `kinds`. */
  proof: ProofName;
  place: PlaceName;
  client: ClientName;
  mind: Mind;
  /** Sites on hosts that have the name, in the order they are deployed to. */
  sites: { host: number; site: number }[];
  /** How many targets of several are the first wave. */
  firstWave: number;
  /** The stage that a client waits for before it cancels. */
  cancelsIn: StageName;
  /** How long people and clients think, ms. */
  thinksMs: number;
  /** Whether a person says so when the records are there. */
  continues: boolean;
}

export interface PlacedOrder extends PlannedOrder {
  id: string;
  /** What its client was told in the end, where it asked for something more. */
  told: string | null;
}

type Choice = Pick<PlannedOrder, 'proof' | 'place' | 'client' | 'mind'>;
const usual: Choice = { proof: 'http-01', place: 'site', client: 'waits', mind: 'takes' };
const prefixes: Record<Mind, string> = {
  ...{ takes: '', refuses: refusedName, 'refuses request': badRequestName, doubts: doubtedName },
};

/** However short a run is, one of each is in it. */
const first: (Partial<Choice> & { cancelsIn?: StageName })[] = [
  ...([{ mind: 'refuses' }, { mind: 'refuses request' }, { mind: 'doubts' }] as const),
  ...([{ place: 'rollout' }, { place: 'webhook' }, { place: 'folder' }] as const),
  ...([{ proof: 'dns-01' }, { proof: 'manual' }, { proof: 'webroot' }, { client: 'repeats' }] as const),
  ...([
    { client: 'retries', mind: 'refuses' },
    { client: 'retries', mind: 'refuses request' },
  ] as const),
  ...(['validation', 'issuance', 'deployment'] as const).map((cancelsIn) => ({
    client: 'cancels' as const,
    cancelsIn,
  })),
  { place: 'rollout', client: 'cancels', cancelsIn: 'deployment' },
];

/** One of the names, as often as its share says. */
function drawn<N extends string>(dice: Dice, kinds: Record<N, { share: number }>): N {
  const names = Object.keys(kinds) as N[];
  let left = dice.between(
    0,
    names.reduce((sum, name) => sum + kinds[name].share, 0),
  );
  return names.find((name) => {
    left -= kinds[name].share;
    return left < 0;
  }) as N;
}

function choose(dice: Dice): Choice {
  const proof = drawn(dice, proofs);
  const place = drawn(dice, places);
  const client = drawn(dice, clients);
  const refusal = dice.pick(['refuses', 'refuses request'] as const);
  const isOdd = dice.chance(0.1);
  // Whoever takes an order up again was refused.
  const mind =
    client === 'retries'
      ? refusal
      : client === 'cancels'
        ? 'takes'
        : isOdd
          ? dice.pick([refusal, 'doubts'] as const)
          : 'takes';
  return { proof, place, client, mind };
}

/** The orders that a seed stands for. */
export function planOrders(seed: number, count: number, hosts: number, spanMs: number): PlannedOrder[] {
  const dice = diceOf(seed, 'orders');
  const taken = Array.from({ length: hosts }, () => 0);
  const nextSite = (host: number) => {
    taken[host] = (taken[host] ?? 0) + 1;
    return { host, site: taken[host] };
  };
  return Array.from({ length: count }, (_, at) => {
    const number = at + 1;
    const drawnChoice = choose(dice);
    const { cancelsIn = dice.pick(['validation', 'issuance', 'deployment'] as const), ...forced } = first[at] ?? {};
    const choice = first[at] ? { ...usual, ...forced } : drawnChoice;
    const start = Math.floor(dice.between(0, hosts));
    const inTurn = Array.from({ length: hosts }, (_, step) => (start + step) % hosts);
    return {
      ...{
        ...choice,
        number,
        cancelsIn,
        name: proofs[choice.proof].name(`${prefixes[choice.mind]}o${number}`, zoneName),
      },
      sites: choice.place === 'site' ? [nextSite(start)] : choice.place === 'rollout' ? inTurn.map(nextSite) : [],
      firstWave: Math.ceil(dice.between(0, hosts - 1)),
      afterMs: dice.between(0, spanMs),
      thinksMs: dice.between(0, 4_000),
      continues: dice.chance(0.5),
    };
  });
}

/** The names of the sites of each host, by site id from 1. */
export const sitesOf = (plans: readonly PlannedOrder[], hosts: number): string[][] =>
  Array.from({ length: hosts }, (_, at) =>
    plans.flatMap(({ name, sites }) => sites.filter(({ host }) => host === at).map(() => name)),
  );
