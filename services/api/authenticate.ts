import { createHash, randomBytes } from 'node:crypto';
import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import { type ApiKey, allows, type Scope } from '#libs/model/api-key';
import type { RecordStore } from '#libs/store/records';

/** A new API key: 256 bits, with a prefix that secret scanners can look for. */
export function newApiKey(): string {
  return `certline_${randomBytes(32).toString('base64url')}`;
}

/** Id of the record of a key: its SHA-256, which is enough for keys of full entropy. */
export function apiKeyId(key: string): string {
  return `key_${createHash('sha256').update(key).digest('hex')}`;
}

/** The record of the key a request carries, if it may do what needs `scope`. Throws `unauthenticated` or `scope_missing`. */
export async function authenticate(
  keys: Pick<RecordStore<ApiKey>, 'get'>,
  authorization: string | undefined,
  scope: Scope,
): Promise<ApiKey> {
  const [, presented] = /^Bearer +(\S+)$/i.exec(authorization ?? '') ?? [];
  if (!presented) throw new CertlineError('unauthenticated', 'the request has no `Authorization: Bearer` header');
  const key = await keys.get(apiKeyId(presented));
  if (key === null || key.revokedAt !== null)
    throw new CertlineError('unauthenticated', 'the API key is unknown or revoked');
  if (!allows(key, scope)) throw new CertlineError('scope_missing', `the API key ${key.name} lacks the scope ${scope}`);
  return key;
}

/** Makes the first key when there is none. Answers it in clear when it was made here: to be printed once. */
export async function ensureFirstKey(
  keys: Pick<RecordStore<ApiKey>, 'get' | 'create' | 'count'>,
  given: string | undefined,
  clock: Clock,
): Promise<string | null> {
  const record = (key: string): ApiKey => ({
    id: apiKeyId(key),
    name: 'bootstrap',
    scopes: ['admin'],
    createdAt: clock.now(),
    revokedAt: null,
  });
  if (given !== undefined) {
    if ((await keys.get(apiKeyId(given))) === null) await keys.create(record(given));
    return null;
  }
  if ((await keys.count()) > 0) return null;
  const made = newApiKey();
  await keys.create(record(made));
  return made;
}
