import type { Order, PresentedChallenge } from '../model/order.ts';
import { type CleanUp, cleanUpText, writtenName } from './clean-ups.ts';
import type { Keys } from './keys.ts';
import type { Command } from './redis.ts';

/** After this long, in ms, a worker that had an order in hand when it was called off has written what it was about to write, or died. */
const secondLookMs = 600_000;

/** What is to be taken away when an order drops a challenge; null where nothing was written, or it stays. */
export function cleanUpOf(order: string, one: PresentedChallenge, at: number): CleanUp | null {
  if (one.type === 'http-01') {
    if (one.via === 'webroot') return { kind: 'webroot', order, at, folder: one.folder, token: one.token };
    if (one.via !== 'target' || one.site === null) return null;
    return { kind: 'target', order, at, target: one.target, site: one.site, token: one.token };
  }
  const { type, credential, zone, record, value } = one;
  // The record of dns-persist-01 is for all orders to come; what a person made is theirs to take away.
  if (type === 'dns-persist-01' || credential === null) return null;
  return { kind: 'dns', order, at, credential, zone, record, value };
}

/** What tells two challenges of an order apart. */
function nameOf(one: PresentedChallenge): string {
  if (one.type !== 'http-01') return `${one.type} ${one.record} ${one.value}`;
  const place = one.via === 'target' ? `${one.target} ${one.site}` : one.via === 'webroot' ? one.folder : '';
  return `${one.type} ${one.via} ${one.token} ${place}`;
}

/** Whether the host of a target answers any challenge of the order: one listener is for all of them. */
function answers({ presented }: Order, target: string): boolean {
  return presented.some((one) => 'via' in one && one.via === 'target' && one.target === target);
}

/**
 * An http-01 answer of the responder is there from the save that says so, and gone with the save that drops it. Everything else is written after
 * the save that says so, and comes on the list of what is to be taken away with the save that drops it; a listener ends by that save, too.
 */
export function presentedCommands(keys: Keys, order: Order, previous: Order | null): Command[] {
  if (previous?.presented === order.presented) return [];
  const before = previous?.presented ?? [];
  const commands: Command[] = [];
  // Called off by somebody else while a worker may be writing.
  const isInHand = order.status === 'cancelled' && previous !== null && previous.startedAt !== null;
  const written = (one: PresentedChallenge): CleanUp | null => cleanUpOf(order.id, one, order.updatedAt);
  for (const one of order.presented) {
    if ('via' in one && one.via === 'responder')
      commands.push(['SET', keys.challenge(one.token), one.keyAuthorization, 'PXAT', String(one.expires)]);
    const cleanUp = written(one);
    if (cleanUp) commands.push(['SADD', keys.written(writtenName(cleanUp)), order.id]);
  }
  const kept = new Set(order.presented.map(nameOf));
  for (const one of before.filter((was) => !kept.has(nameOf(was)))) {
    if ('via' in one && one.via === 'responder') commands.push(['DEL', keys.challenge(one.token)]);
    if ('via' in one && one.via === 'target' && !answers(order, one.target))
      commands.push(['DEL', keys.challengeListener(order.id, one.target)]);
    const cleanUp = written(one);
    if (cleanUp === null) continue;
    commands.push(['SREM', keys.written(writtenName(cleanUp)), order.id]);
    commands.push(['ZADD', keys.cleanUps, '0', cleanUpText(cleanUp)]);
    if (!isInHand) continue;
    const at = order.updatedAt + secondLookMs;
    commands.push(['ZADD', keys.cleanUps, String(at), cleanUpText({ ...cleanUp, at })]);
  }
  return commands;
}
