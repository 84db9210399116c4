import { createHash } from 'node:crypto';
import { CertlineError } from '../errors.ts';
import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

const lifeMs = 7 * 86_400_000;

/** A client's word for one request, which it may send more than once. */
export interface Idempotency {
  key: string;
  body: string;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url');

/** Key, value and life (ms) of what keeps a request from being done twice, for the scripts: the record with this id is what it makes. */
export function onceFor(
  keys: Keys,
  { key, body }: Idempotency,
  id: string,
): [key: string, value: string, life: string] {
  return [keys.idempotency(sha256(key)), `${id} ${sha256(body)}`, String(lifeMs)];
}

/** The id in such a value; throws `idempotency_key_reused` when it was another request that made it. */
export function idHeld(value: string, { body }: Idempotency): string {
  const [id = '', itsBody] = value.split(' ');
  if (itsBody === sha256(body)) return id;
  throw new CertlineError('idempotency_key_reused', `this Idempotency-Key placed ${id} with another body`);
}

/** The id of what a request has made already, null when it has not; throws as `idHeld`. */
export async function madeBy(redis: RedisClient, keys: Keys, idempotency: Idempotency): Promise<string | null> {
  const held = await redis.get(keys.idempotency(sha256(idempotency.key)));
  return held === null ? null : idHeld(held, idempotency);
}
