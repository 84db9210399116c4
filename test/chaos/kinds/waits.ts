import { type ClientKind, nothingWrong, usualEnd } from './kind.ts';

/** A client that orders and waits. */
export const waits: ClientKind = { share: 0.6, endOf: usualEnd, ends: 1, audit: nothingWrong };
