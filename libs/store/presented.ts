import type { Order, Presented, PresentedChallenge } from '../model/order.ts';
import { type CleanUp, cleanUpText, dnsRecordName } from './clean-ups.ts';
import type { Keys } from './keys.ts';
import type { Command } from './redis.ts';

const isSame = (a: PresentedChallenge, b: PresentedChallenge): boolean =>
  a.type === b.type && a.token === b.token && (a.type === 'http-01' || (b.type === 'dns-01' && a.record === b.record));

/** After this long, in ms, a worker that had an order in hand when it was called off has written what it was about to write, or died. */
const secondLookMs = 600_000;

function cleanUpOf({ id, updatedAt }: Order, { credential, zone, record, value }: Presented<'dns-01'>): CleanUp {
  return { order: id, credential, zone, record, value, at: updatedAt };
}

/**
 * An http-01 answer is there from the save that says so, and gone with the save that drops it. A TXT record is written after the save that
 * says so, and comes on the list of what is to be taken away with the save that drops it.
 */
export function presentedCommands(keys: Keys, order: Order, previous: Order | null): Command[] {
  if (previous?.presented === order.presented) return [];
  const before = previous?.presented ?? [];
  const commands: Command[] = [];
  // Called off by somebody else while a worker may be writing.
  const isInHand = order.status === 'cancelled' && previous !== null && previous.startedAt !== null;
  for (const one of order.presented) {
    if (one.type === 'http-01')
      commands.push(['SET', keys.challenge(one.token), one.keyAuthorization, 'PXAT', String(one.expires)]);
    else commands.push(['SADD', keys.dnsRecord(dnsRecordName(one)), order.id]);
  }
  for (const one of before.filter((was) => !order.presented.some((is) => isSame(was, is)))) {
    if (one.type === 'http-01') commands.push(['DEL', keys.challenge(one.token)]);
    else {
      commands.push(['SREM', keys.dnsRecord(dnsRecordName(one)), order.id]);
      const cleanUp = cleanUpOf(order, one);
      commands.push(['ZADD', keys.cleanUps, '0', cleanUpText(cleanUp)]);
      if (!isInHand) continue;
      const at = order.updatedAt + secondLookMs;
      commands.push(['ZADD', keys.cleanUps, String(at), cleanUpText({ ...cleanUp, at })]);
    }
  }
  return commands;
}
