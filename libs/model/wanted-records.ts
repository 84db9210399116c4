import { z } from 'zod';
import type { Order, PresentedChallenge, PresentedDns } from './order.ts';

/** A TXT record that a person has to make. */
export interface WantedRecord {
  type: 'TXT';
  name: string;
  value: string;
  /** Whether all name servers showed it at the last look; absent when there was none. */
  visible?: boolean;
}

/** What the evidence of `dns_record_awaited` says: the records that were not seen. */
const missingSchema = z.object({ records: z.array(z.object({ name: z.string(), value: z.string() })) });

const isByHand = (one: PresentedChallenge): one is PresentedDns => one.type !== 'http-01' && one.credential === null;

/** The challenges whose records a person makes, as the order has their names: a CA may have them in another sequence each time. */
export function presentedByHand({ request: { names }, presented }: Order): PresentedDns[] {
  return presented.filter(isByHand).sort((one, other) => names.indexOf(one.name) - names.indexOf(other.name));
}

/** The records that a person has to make for an order, all at once; it drops them when it is not pending any more. */
export function wantedRecords(order: Order): WantedRecord[] {
  const { error } = order;
  const missing = error?.code === 'dns_record_awaited' ? missingSchema.safeParse(error.evidence).data?.records : null;
  return presentedByHand(order).map(({ record: name, value }) => ({
    ...{ type: 'TXT', name, value },
    ...(missing ? { visible: !missing.some((one) => one.name === name && one.value === value) } : {}),
  }));
}
