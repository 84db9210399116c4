import { describe, expect, it } from 'vitest';
import { type ApiKey, allows, type Scope, scopes } from '#libs/model/api-key';
import type { RecordStore } from '#libs/store/records';
import { apiKeyId, authenticate, ensureFirstKey, newApiKey } from '../../../services/api/authenticate.ts';
import { fakeClock } from '../../support/fake-clock.ts';

const clock = fakeClock();

/** API keys kept in memory. */
function keysWith(
  ...given: ApiKey[]
): Pick<RecordStore<ApiKey>, 'get' | 'create' | 'count'> & { all: Map<string, ApiKey> } {
  const all = new Map(given.map((key) => [key.id, key]));
  return {
    all,
    get: async (id) => all.get(id) ?? null,
    async create(record) {
      const created = !all.has(record.id);
      if (created) all.set(record.id, record);
      return { record, created };
    },
    count: async () => all.size,
  };
}
const secret = newApiKey();
const keyOf = (allowed: Scope[], revokedAt: number | null = null): ApiKey => {
  return { id: apiKeyId(secret), name: 'robot', scopes: allowed, createdAt: 0, revokedAt };
};

describe('a request', () => {
  it('with a key that has the scope gets its record', async () => {
    const key = keyOf(['orders:read']);
    for (const header of [`Bearer ${secret}`, `bearer   ${secret}`]) {
      expect(await authenticate(keysWith(key), header, 'orders:read')).toBe(key);
    }
  });

  it.each([
    ['no header', undefined],
    ['an empty header', ''],
    ['another scheme', `Basic ${secret}`],
    ['no key', 'Bearer '],
    ['two words', `Bearer ${secret} ${secret}`],
    ['an unknown key', `Bearer ${newApiKey()}`],
    ['the id of a key', `Bearer ${apiKeyId(secret)}`],
  ])('with %s is not authenticated', async (_, header) => {
    await expect(authenticate(keysWith(keyOf(['admin'])), header, 'orders:read')).rejects.toMatchObject({
      code: 'unauthenticated',
    });
  });

  it('with a revoked key is not authenticated', async () => {
    const keys = keysWith(keyOf(['admin'], 1));
    await expect(authenticate(keys, `Bearer ${secret}`, 'orders:read')).rejects.toMatchObject({
      code: 'unauthenticated',
    });
  });

  it('with a key that lacks the scope is told which', async () => {
    const keys = keysWith(keyOf(['orders:read']));
    await expect(authenticate(keys, `Bearer ${secret}`, 'orders:write')).rejects.toMatchObject({
      code: 'scope_missing',
      message: 'the API key robot lacks the scope orders:write',
    });
  });
});

describe('an API key', () => {
  it('is long, its own, and easy to find where it does not belong', () => {
    expect(secret).toMatch(/^certline_[A-Za-z0-9_-]{43}$/);
    expect(newApiKey()).not.toBe(secret);
  });

  it('cannot be told from the id of its record', () => {
    expect(apiKeyId(secret)).toMatch(/^key_[0-9a-f]{64}$/);
    expect(apiKeyId(secret)).not.toContain(secret.slice('certline_'.length));
  });

  it('of an administrator may do everything, others what their scopes say, a revoked one nothing', () => {
    for (const scope of scopes) {
      expect(allows(keyOf(['admin']), scope)).toBe(true);
      expect(allows(keyOf(['orders:read']), scope)).toBe(scope === 'orders:read');
      expect(allows(keyOf([scope], 1), scope)).toBe(false);
    }
  });
});

describe('the first API key', () => {
  it('is made when there is none, and told once', async () => {
    const keys = keysWith();
    const made = await ensureFirstKey(keys, undefined, clock);
    expect(await authenticate(keys, `Bearer ${made}`, 'admin')).toMatchObject({ name: 'bootstrap', scopes: ['admin'] });
    expect(await ensureFirstKey(keys, undefined, clock)).toBeNull();
    expect([...keys.all.values()].join()).not.toContain(made);
  });

  it('is the one that is given, which nobody has to be told', async () => {
    const keys = keysWith();
    expect(await ensureFirstKey(keys, secret, clock)).toBeNull();
    expect([...keys.all.keys()]).toEqual([apiKeyId(secret)]);
  });

  it('that is given stays revoked once it was', async () => {
    const revoked = keyOf(['admin'], 5);
    const keys = keysWith(revoked);
    await ensureFirstKey(keys, secret, clock);
    expect([...keys.all.values()]).toEqual([revoked]);
  });
});
