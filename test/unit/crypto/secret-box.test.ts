import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createSecretBox, parseMasterKeys } from '#libs/store/secret-box';

const oldKey = randomBytes(32);
const newKey = randomBytes(32);
const before = createSecretBox({ current: 'k1', keys: new Map([['k1', oldKey]]) });
const after = createSecretBox({
  current: 'k2',
  keys: new Map([
    ['k2', newKey],
    ['k1', oldKey],
  ]),
});
const unreadable = expect.objectContaining({ code: 'secret_unreadable' });

describe('a secret box', () => {
  test.each(['', 'a private key', 'Grüße 𝄞'])('opens what it sealed: %j', (text) => {
    expect(before.open('n', before.seal('n', text)).toString()).toBe(text);
  });

  test('opens bytes as they were', () => {
    const bytes = randomBytes(5000);
    expect(before.open('n', before.seal('n', bytes)).equals(bytes)).toBe(true);
  });

  test('seals the same text differently each time and does not show it', () => {
    const one = before.seal('n', 'visible');
    const other = before.seal('n', 'visible');
    const fields = [one, other].map((blob) => blob.split('.').slice(2));
    expect(new Set(fields.flat()).size).toBe(8);
    expect(Buffer.from(one.replaceAll('.', ''), 'base64url').includes('visible')).toBe(false);
  });

  test('does not open a blob under another name', () => {
    expect(() => before.open('b', before.seal('a', 'text'))).toThrow(unreadable);
  });

  test('does not rewrap a blob under another name', () => {
    expect(() => after.rewrap('b', before.seal('a', 'text'))).toThrow(unreadable);
  });

  test('does not open with another key of the same id', () => {
    const stranger = createSecretBox({ current: 'k1', keys: new Map([['k1', newKey]]) });
    expect(() => stranger.open('n', before.seal('n', 'text'))).toThrow(unreadable);
  });

  test('names the master key it lacks', () => {
    expect(() => before.open('n', after.seal('n', 'text'))).toThrow(unreadable);
    expect(() => before.open('n', after.seal('n', 'text'))).toThrow('"k2"');
  });

  test('does not open a blob with any bit of its binary fields changed', () => {
    const fields = before.seal('n', 'text').split('.');
    for (let at = 2; at < fields.length; at++) {
      const bytes = Buffer.from(fields[at] ?? '', 'base64url');
      for (let bit = 0; bit < bytes.length * 8; bit += 7) {
        const changed = Buffer.from(bytes);
        changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        const blob = fields.with(at, changed.toString('base64url')).join('.');
        expect(() => before.open('n', blob)).toThrow(unreadable);
      }
    }
  });

  test('does not open a blob with the content of another', () => {
    const one = before.seal('n', 'one').split('.');
    const other = before.seal('n', 'two').split('.');
    expect(() => before.open('n', [...one.slice(0, 4), ...other.slice(4)].join('.'))).toThrow(unreadable);
  });

  test('does not open a blob with a field more', () => {
    expect(() => before.open('n', `${before.seal('n', 'text')}.AAAA`)).toThrow(unreadable);
  });

  test('does not open a blob whose tag was cut short', () => {
    const blob = before.seal('n', '');
    expect(() => before.open('n', blob.slice(0, -6))).toThrow(unreadable);
  });

  test.each(['', 'text', 'v1.k1', 'v2.k1.a.b.c.d', 'v1.k1....', 'v1.k1.a.b.c.d.e'])('takes %j for no blob', (text) => {
    expect(() => before.open('n', text)).toThrow(unreadable);
    expect(() => before.keyIdOf(text)).toThrow(unreadable);
  });

  test('rewraps for the current master key and leaves the ciphertext as it is', () => {
    const blob = before.seal('n', 'text');
    const rewrapped = after.rewrap('n', blob);
    expect([before.keyIdOf(blob), after.keyIdOf(rewrapped)]).toEqual(['k1', 'k2']);
    expect(rewrapped.split('.').slice(4)).toEqual(blob.split('.').slice(4));
    const withoutOld = createSecretBox({ current: 'k2', keys: new Map([['k2', newKey]]) });
    expect(withoutOld.open('n', rewrapped).toString()).toBe('text');
  });

  test('is not made without its current key or with a key of another length', () => {
    expect(() => createSecretBox({ current: 'k1', keys: new Map() })).toThrow('"k1"');
    expect(() => createSecretBox({ current: 'k1', keys: new Map([['k1', randomBytes(16)]]) })).toThrow('32 bytes');
  });
});

describe('the master keys of the configuration', () => {
  const one = oldKey.toString('base64');
  const two = newKey.toString('base64');

  test('are read from lines and commas, the first being the current one', () => {
    const text = `# since May\r\nk2: ${two}\n\n  k1:${one} , k0:${one},\n`;
    const { current, keys } = parseMasterKeys(text);
    expect(current).toBe('k2');
    expect([...keys]).toEqual([
      ['k2', newKey],
      ['k1', oldKey],
      ['k0', oldKey],
    ]);
  });

  test('may be a single key without an id, with or without its padding', () => {
    expect(parseMasterKeys(`${one}\n`)).toEqual({ current: 'default', keys: new Map([['default', oldKey]]) });
    expect(parseMasterKeys(oldKey.toString('base64url')).keys.get('default')).toEqual(oldKey);
  });

  test.each([
    ['nothing', '\n , # \n', 'Master key 1'],
    ['no keys', '# none\n\n', 'There is no master key'],
    ['a short key', `k1:${one}\nk2:${randomBytes(24).toString('base64')}`, 'Master key 2 is not 32 bytes'],
    ['two keys of one id', `${one},${two}`, 'Master key 2 has the id of an earlier one'],
    ['an id with a dot', `a.b:${one}`, 'Master key 1 has a bad id'],
    ['an empty id', `:${one}`, 'Master key 1 has a bad id'],
  ])('are refused when there is %s, with what to do and without the key', (_what, text, message) => {
    const attempt = () => parseMasterKeys(text);
    expect(attempt).toThrow(message);
    expect(attempt).toThrow('openssl rand -base64 32');
    expect(attempt).not.toThrow(one);
  });
});
