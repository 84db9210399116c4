import { txtAt } from '../../support/dns-providers.ts';
import type { World } from '../world.ts';
import { type EndedOrder, type ProofKind, plainName } from './kind.ts';

/** TXT records that are left at names of orders. */
export async function recordsLeft({ zone }: World, ended: readonly EndedOrder[]): Promise<string[]> {
  const found = await Promise.all(
    ended.map(async ({ plan: { name } }) => {
      const left = await txtAt(zone.nameServer, `_acme-challenge.${name}`);
      return left.length === 0 ? [] : [`TXT records are left for ${name}`];
    }),
  );
  return found.flat();
}

/** dns-01, whose records are written with signed updates. */
export const dns01: ProofKind = {
  share: 0.3,
  name: plainName,
  challenge: ({ credential }) => ({ type: 'dns-01', credential }),
  audit: recordsLeft,
};
