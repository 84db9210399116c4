import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { generatePrivateKey } from '#libs/crypto/private-key';
import type { KeyType } from '#libs/model/certificate';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';
import type { SecretStore } from '#libs/store/store';

const box = createSecretBox(parseMasterKeys(`test:${randomBytes(32).toString('base64')}`));

/** Private keys in a store of their own; what it keeps is `kept`. */
function fresh() {
  const kept = new Map<string, string>();
  const secrets: SecretStore = {
    async putOnce(name, sealed) {
      if (!kept.has(name)) kept.set(name, sealed);
      return kept.get(name) ?? '';
    },
    get: async (name) => kept.get(name) ?? null,
    putting: (name, sealed) => ['SET', name, sealed],
    removing: (name) => ['DEL', name],
  };
  const keys = createPrivateKeys(secrets, box);
  return {
    kept,
    keys,
    keep(name: string, pem: string) {
      const [, , sealed = ''] = keys.keeping(name, pem);
      kept.set(name, sealed);
    },
  };
}

describe('a private key', () => {
  it.each<KeyType>(['rsa-2048', 'ec-p256', 'ec-p384'])(
    'of type %s comes back as it was, and is kept without its PEM',
    async (type) => {
      const { keys, keep, kept } = fresh();
      const pem = await generatePrivateKey(type);
      keep('k', pem);
      expect(await keys.open('k')).toBe(pem);
      expect(box.open('k', kept.get('k') ?? '').length).toBeLessThan(pem.length * 0.75);
    },
  );

  it('that an earlier version has kept as PEM is opened as well', async () => {
    const { keys, kept } = fresh();
    const pem = await generatePrivateKey('ec-p256');
    kept.set('k', box.seal('k', pem));
    expect(await keys.open('k')).toBe(pem);
  });

  it.each(['\n', 'comment\n'])('in a PEM of another form stays as it is: with %j before it', async (before) => {
    const { keys, keep } = fresh();
    const pem = before + (await generatePrivateKey('ec-p256'));
    keep('k', pem);
    expect(await keys.open('k')).toBe(pem);
  });

  it('that is asked for twice is the first one', async () => {
    const { keys } = fresh();
    const first = await keys.obtain('k', () => generatePrivateKey('ec-p256'));
    expect(await keys.obtain('k', () => generatePrivateKey('ec-p256'))).toBe(first);
  });
});
