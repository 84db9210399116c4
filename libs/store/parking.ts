import type { Account } from '../model/account.ts';
import type { Credential } from '../model/credential.ts';
import type { Keys } from './keys.ts';
import { streamLength } from './order-events.ts';
import { type ParkedKind, parkingEvent } from './parking-events.ts';
import type { Command } from './redis.ts';

type Parkable = Account | Credential;

const parkedOf = (record: Parkable | null): Account['parked'] =>
  record !== null && 'parked' in record ? record.parked : null;

/**
 * What follows from each change of an account or credential, whoever makes it: the list of those whose orders are held, and an event
 * when one comes on it or goes. In one step with the record, so that each is told once.
 */
export function parkingCommands(keys: Keys, kind: ParkedKind, now: () => number) {
  return (record: Parkable | null, previous: Parkable | null): Command[] => {
    const [after, before] = [parkedOf(record), parkedOf(previous)];
    const id = (record ?? previous)?.id;
    const reason = after ?? before;
    if (id === undefined || reason === null || (after !== null) === (before !== null)) return [];
    const list: Command = [after === null ? 'SREM' : 'SADD', keys.parked(kind), id];
    // What is deleted is not mended.
    if (record === null) return [list];
    const event = parkingEvent(kind, id, { isParked: after !== null, reason, at: after?.at ?? now() });
    return [list, ['XADD', keys.events, 'MAXLEN', '~', String(streamLength), '*', 'event', JSON.stringify(event)]];
  };
}
