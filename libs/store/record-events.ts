import type { Order } from '../model/order.ts';
import { presentedByHand, wantedRecords } from '../model/wanted-records.ts';
import type { OrderEventInput } from './order-events.ts';

const inWords = ({ name, value }: { name: string; value: string }): string => `${name} TXT "${value}"`;

/** The records that an order waits for; none as long as nobody has missed them, since those of dns-persist-01 may be there. */
function awaited(order: Order): string {
  return order.error?.code === 'dns_record_awaited' ? wantedRecords(order).map(inWords).join('; ') : '';
}

/** Records that were asked of a person and need not stay. */
function passing(order: Order): string[] {
  const byHand = presentedByHand(order).filter(({ type }) => type !== 'dns-persist-01');
  return byHand.map(({ record: name, value }) => inWords({ name, value }));
}

/** What a save changes for the person who makes records: they are wanted, or wanted no more. */
export function recordEvents(previous: Order, order: Order): OrderEventInput[] {
  const at = order.updatedAt;
  const wanted = awaited(order);
  const kept = new Set(passing(order));
  const over = passing(previous).filter((record) => !kept.has(record));
  return [
    ...(wanted !== '' && wanted !== awaited(previous) ? [{ type: 'records_wanted' as const, at, detail: wanted }] : []),
    ...(over.length === 0 ? [] : [{ type: 'records_removable' as const, at, detail: over.join('; ') }]),
  ];
}
