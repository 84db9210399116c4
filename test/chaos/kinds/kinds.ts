import { cancels } from './cancels.ts';
import { dns01 } from './dns-01.ts';
import { folder } from './folder.ts';
import { http01 } from './http-01.ts';
import type { ClientKind, PlaceKind, ProofKind } from './kind.ts';
import { manual } from './manual.ts';
import { repeats } from './repeats.ts';
import { retries } from './retries.ts';
import { rollout } from './rollout.ts';
import { site } from './site.ts';
import { waits } from './waits.ts';
import { webhook } from './webhook.ts';
import { webroot } from './webroot.ts';

/** An order is one of each list. */
export const proofs = { 'http-01': http01, 'dns-01': dns01, webroot, manual } as const satisfies Record<
  string,
  ProofKind
>;
export const places = { site, rollout, folder, webhook } as const satisfies Record<string, PlaceKind>;
export const clients = { waits, repeats, cancels, retries } as const satisfies Record<string, ClientKind>;

export type ProofName = keyof typeof proofs;
export type PlaceName = keyof typeof places;
export type ClientName = keyof typeof clients;
