import { describe, expect, it } from 'vitest';
import { quoted, unquoted } from '#libs/dns/txt-text';
import { relativeName, zoneNotManaged } from '#libs/dns/zone-names';

describe('The text of a TXT value', () => {
  it.each([
    ['plain', '"plain"', 'plain'],
    ['quotation marks and backslashes', '"a\\"b\\\\c"', 'a"b\\c'],
    ['several strings', '"v=DKIM1; " "p=MIG"', 'v=DKIM1; p=MIG'],
    ['bytes by number', '"a\\032b"', 'a b'],
    ['no quotation marks', 'as-it-is', 'as-it-is'],
    ['quotation marks inside', 'say "no"', 'say "no"'],
    ['nothing', '""', ''],
  ])('is read with %s', (_, text, value) => {
    expect(unquoted(text)).toBe(value);
  });

  it('is written so that it is read as the same', () => {
    for (const value of ['plain', 'a"b', 'a\\b', '\\"', '', 'a; b='.repeat(100)])
      expect(unquoted(quoted(value))).toBe(value);
  });

  it('is written in strings of 255 characters at the most', () => {
    expect(quoted('x'.repeat(256))).toBe(`"${'x'.repeat(255)}" "x"`);
  });
});

describe('A name in its zone', () => {
  const zone = 'example.com';
  it('is without the zone, and the apex where there is nothing else', () => {
    expect(relativeName({ zone, name: '_acme-challenge.www.example.com', value: '' }, '@')).toBe('_acme-challenge.www');
    expect(relativeName({ zone, name: zone, value: '' }, '@')).toBe('@');
    expect(relativeName({ zone, name: zone, value: '' }, '')).toBe('');
  });

  it('is refused when it only ends like the zone', () => {
    expect(() => relativeName({ zone, name: 'a.notexample.com', value: '' }, '@')).toThrow('is not in the zone');
  });

  it('is told with some of the zones that are seen when it is in none', () => {
    const many = Array.from({ length: 12 }, (_, at) => `z${at}.example`);
    expect(zoneNotManaged('X', zone, many).message).toMatch(/it sees z0\.example, .*z9\.example and 2 more$/);
    expect(zoneNotManaged('X', zone, []).message).toContain('it sees no zone at all');
    expect(zoneNotManaged('X', zone, null).message).toContain('is not there, or not for this credential');
  });
});
