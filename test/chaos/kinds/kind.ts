import type { Order } from '#libs/model/order';
import type { OrderEvent } from '#libs/store/order-events';
import type { Store } from '#libs/store/store';
import type { CaOrder } from '../../support/issuing-ca.ts';
import type { Client } from '../client.ts';
import type { PlacedOrder, PlannedOrder } from '../plan.ts';
import type { World } from '../world.ts';

/** An order from when it was accepted until its client is done with it. */
export interface OpenOrder {
  world: World;
  plan: PlannedOrder & { id: string };
  client: Client;
  /** Sends the order once more, as it was sent before. */
  placeAgain(): ReturnType<Client['ask']>;
  /** Records and history past the ways that are cut: for what people see without asking. */
  store: Store;
  /** Waits. Throws when everything is to stop. */
  wait(ms: number): Promise<void>;
}

/** An order in the end, with what the CA has of it. */
export interface EndedOrder {
  plan: PlacedOrder;
  order: Order;
  /** Its status, or the code that it failed with. */
  end: string;
  /** Of its certificate; null when it has none. */
  thumbprint: string | null;
  events: readonly OrderEvent[];
  /** ACME orders for its name. */
  atCa: readonly CaOrder[];
}

/** One way for orders to be, by which the runs differ from each other. */
interface Kind {
  /** How often it is drawn, in relation to the others of its sort. */
  share: number;
  /** What is not as it must be in the end, of its orders and of what it has for itself, in words. */
  audit(world: World, ended: readonly EndedOrder[]): Promise<string[]>;
}

/** How a name is proved. */
export interface ProofKind extends Kind {
  name(label: string, zone: string): string;
  /** `challenge` of the order. */
  challenge(world: World, plan: PlannedOrder): Record<string, unknown>;
  /** What a person does for it. */
  act?(order: OpenOrder): Promise<void>;
}

/** Where a certificate goes. */
export interface PlaceKind extends Kind {
  /** `deploy` of the order. */
  deploy(world: World, plan: PlannedOrder): Record<string, unknown>;
}

/** What a client does after its order was accepted. */
export interface ClientKind extends Kind {
  /** Answers what it was told. */
  act?(order: OpenOrder): Promise<string>;
  /** The end that an order must have. */
  endOf(plan: PlacedOrder): string;
  /** How often an order ends: one that is taken up again ends twice. */
  ends: number;
}

/** How an order ends when nobody calls it off or takes it up again: its status, or the code that it must fail with. */
export function usualEnd({ mind }: PlannedOrder): string {
  if (mind === 'refuses') return 'identifier_rejected';
  return mind === 'refuses request' ? 'csr_rejected' : 'deployed';
}

export const plainName = (label: string, zone: string): string => `${label}.${zone}`;
export const nothingWrong = async (): Promise<string[]> => [];
