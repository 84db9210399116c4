import { randomBytes } from 'node:crypto';

/** A token that tells one write of a record from all others. Each record keeps that of its last write, so it is no longer than it needs to be. */
export function newWrite(): string {
  return randomBytes(9).toString('base64url');
}
