import { z } from 'zod';
import type { Account } from '../model/account.ts';

/**
 * What is told of accounts and credentials: from `…_parked` on their orders are held, until `…_resumed`. `account_limited`: the CA has told an order of
 * the account to wait, and those that count for the same wait with it, until the time in `detail`.
 */
export const parkingEventTypes = [
  'account_parked',
  'account_resumed',
  'account_limited',
  'credential_parked',
  'credential_resumed',
] as const;

/** One thing that happened to an account or a credential. `at` is ms since the epoch; `id` tells it from every other event of its kind. */
export const parkingEventSchema = z.object({
  id: z.string(),
  /** The account or credential, as `parkedOn` of its orders has it. */
  on: z.string(),
  at: z.number(),
  type: z.enum(parkingEventTypes),
  /** Why its orders are held. */
  code: z.string().optional(),
  detail: z.string(),
});
export type ParkingEvent = z.infer<typeof parkingEventSchema>;

export type ParkedKind = 'account' | 'credential';
type Parked = NonNullable<Account['parked']>;

/** What is told when orders are held from now on for a reason, or go on that were held for it. */
export function parkingEvent(
  kind: ParkedKind,
  on: string,
  happened: { isParked: boolean; reason: Parked; at: number },
): ParkingEvent {
  const { isParked, reason, at } = happened;
  const { code, detail } = reason;
  if (isParked) return { id: `${on}-${at}`, on, at, type: `${kind}_parked`, code, detail };
  return { id: `${on}-${at}`, on, at, type: `${kind}_resumed`, detail: `mended; it was held for ${code}` };
}
