import { describe, expect, it } from 'vitest';
import { centralStoreFileOf, folderNameOf } from '#libs/targets/file-names';

const escapes = [
  '../secret.example.com',
  '..',
  '.',
  '',
  'a/b.example.com',
  'a\\b.example.com',
  '/etc/passwd',
  'C:\\windows',
  'c:example.com',
  'a.example.com\0.pem',
  'a.example.com/../../x',
  'a..example.com',
  '.certline',
  '*',
  '*.',
  'a.*.example.com',
  '**.example.com',
  'WWW.example.com',
  'münchen.example',
  'a%2fb.example.com',
  'a b.example.com',
  'xn--/.example',
  '-a.example.com',
  'host.example.com.',
];

describe('names of files', () => {
  it.each(escapes)('are not made of %j', (name) => {
    for (const make of [() => centralStoreFileOf(name), () => folderNameOf(name, false)])
      expect(make).toThrow(expect.objectContaining({ code: 'name_invalid' }));
  });

  it.each([
    ['www.example.com', 'www.example.com.pfx'],
    ['*.example.com', '_.example.com.pfx'],
    ['xn--mnchen-3ya.example', 'münchen.example.pfx'],
    ['*.xn--mnchen-3ya.example', '_.münchen.example.pfx'],
    ['xn--fiqs8s.xn--55qx5d', '中国.公司.pfx'],
    ['srvdevapp01', 'srvdevapp01.pfx'],
  ])('are those that IIS looks for: %s in %s', (name, file) => {
    expect(centralStoreFileOf(name)).toBe(file);
  });

  it.each(['con.example.com', 'nul', '*.aux'])('leave out what Windows takes for a device: %s', (name) => {
    const refused = expect.objectContaining({ code: 'target_refused', plan: { kind: 'permanent' } });
    if (name.startsWith('*')) expect(centralStoreFileOf(name)).toBe('_.aux.pfx');
    else expect(() => centralStoreFileOf(name)).toThrow(refused);
    if (name.startsWith('*')) expect(folderNameOf(name, true)).toBe('_.aux');
    else expect(() => folderNameOf(name, true)).toThrow(refused);
    expect(folderNameOf(name, false)).toBe(name.replace('*', '_'));
  });

  it('are refused where they are longer than a file name may be', () => {
    const long = `${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(60)}.example`;
    expect(long.length).toBe(251);
    expect(centralStoreFileOf(long)).toBe(`${long}.pfx`);
    expect(() => centralStoreFileOf(`x.${long}`)).toThrow(expect.objectContaining({ code: 'target_refused' }));
  });

  it('stay in ASCII for folders', () => {
    expect(folderNameOf('*.xn--mnchen-3ya.example', true)).toBe('_.xn--mnchen-3ya.example');
  });
});
