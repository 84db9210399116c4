import { describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import { maxNames, nameCovers, parseNames, toAsciiName } from '#libs/model/domain-name';

const http01 = { allowInternalNames: false, provesWildcards: () => false };
const dns01 = { allowInternalNames: false, provesWildcards: () => true };
const privateCa = { allowInternalNames: true, provesWildcards: () => true };

/** The problems of names as `path code`. */
function problemsOf(names: string[], policy = http01): string[] {
  try {
    parseNames(names, policy);
    return [];
  } catch (error) {
    if (!(error instanceof CertlineError)) throw error;
    return (error.problems ?? []).map(({ path, code }) => `${path} ${code}`);
  }
}

describe('names of an order', () => {
  it.each([
    ['srvdevapp01.dev.domain.com', 'srvdevapp01.dev.domain.com'],
    ['example.com', 'example.com'],
    ['WWW.Example.COM', 'www.example.com'],
    ['example.com.', 'example.com'],
    ['  example.com ', 'example.com'],
    ['münchen.de', 'xn--mnchen-3ya.de'],
    ['xn--mnchen-3ya.de', 'xn--mnchen-3ya.de'],
    ['shop.example.co.uk', 'shop.example.co.uk'],
    ['3com.com', '3com.com'],
    ['someone.github.io', 'someone.github.io'],
    [`${'a'.repeat(63)}.example.com`, `${'a'.repeat(63)}.example.com`],
  ])('takes %s as %s', (typed, name) => {
    expect(parseNames([typed], http01)).toEqual([name]);
  });

  it.each([
    ['SRVDEVAPP01', 'name_not_public'],
    ['localhost', 'name_not_public'],
    ['printer.local', 'name_not_public'],
    ['app.corp.internal', 'name_not_public'],
    ['host.home.arpa', 'name_not_public'],
    ['service.onion', 'name_not_public'],
    ['www.example.test', 'name_not_public'],
    ['www.example.invalid', 'name_not_public'],
    ['srv.domain.nosuchtld', 'name_not_public'],
    ['co.uk', 'name_is_public_suffix'],
    ['com', 'name_is_public_suffix'],
    ['10.0.0.1', 'name_is_ip_address'],
    ['fe80::1', 'name_is_ip_address'],
    ['[2001:db8::1]', 'name_is_ip_address'],
    ['::ffff:10.0.0.1', 'name_is_ip_address'],
    ['-a.example.com', 'name_invalid'],
    ['a-.example.com', 'name_invalid'],
    ['a_b.example.com', 'name_invalid'],
    ['a..example.com', 'name_invalid'],
    ['.example.com', 'name_invalid'],
    ['example.com..', 'name_invalid'],
    ['two words.example.com', 'name_invalid'],
    ['', 'name_invalid'],
    ['*.', 'name_invalid'],
    ['www.*.example.com', 'name_invalid'],
    ['*.*.example.com', 'name_invalid'],
    [`${'a'.repeat(64)}.example.com`, 'name_invalid'],
    [`${'abcdefghi.'.repeat(25)}example.com`, 'name_invalid'],
    ['*.example.com', 'wildcard_needs_dns_01'],
  ])('refuses %j as %s', (typed, code) => {
    expect(problemsOf([typed])).toEqual([`names[0] ${code}`]);
  });

  it.each([
    'https://example.com',
    'example.com/path',
    'example.com:8080',
    'user@example.com',
    'example.com?x=1',
    'example.com#top',
    'exa%6dple.com',
    'exa\tmple.com',
    'example.com\\share',
  ])('refuses %j, which a URL parser would take another name from', (typed) => {
    expect(problemsOf([typed])).toEqual(['names[0] name_invalid']);
    expect(toAsciiName(typed)).toBeNull();
  });

  it.each(['1.2.3', '2130706433', '0x7f.1'])(
    'refuses %s, an address in another spelling, at a private CA too',
    (typed) => {
      expect(problemsOf([typed])).toEqual(['names[0] name_is_ip_address']);
      expect(problemsOf([typed], privateCa)).toEqual(['names[0] name_is_ip_address']);
    },
  );

  it('of an account that allows internal names may be single labels and private domains', () => {
    const names = ['srvdevapp01', 'printer.local', 'app.corp.internal'];
    expect(parseNames(names, privateCa)).toEqual(names);
    expect(problemsOf(['10.0.0.1', 'a_b'], privateCa)).toEqual([
      'names[0] name_is_ip_address',
      'names[1] name_invalid',
    ]);
  });

  it('may be wildcards where the challenge proves them, but not of a public suffix', () => {
    expect(parseNames(['*.Example.com', 'example.com'], dns01)).toEqual(['*.example.com', 'example.com']);
    expect(problemsOf(['*.co.uk'], dns01)).toEqual(['names[0] name_is_public_suffix']);
  });

  it('may not stand beside a wildcard that covers them', () => {
    expect(problemsOf(['*.example.com', 'www.example.com'], dns01)).toEqual(['names wildcard_covers_name']);
    expect(problemsOf(['www.example.com', '*.example.com'], dns01)).toEqual(['names wildcard_covers_name']);
    expect(problemsOf(['*.example.com', 'example.com', 'a.b.example.com'], dns01)).toEqual([]);
  });

  it('are each kept once, in the order given: the first stays the primary one', () => {
    expect(parseNames(['z.example.com', 'a.example.com', 'Z.EXAMPLE.com.', 'a.example.com'], http01)).toEqual([
      'z.example.com',
      'a.example.com',
    ]);
  });

  it('are a hundred at the most, counted without repetitions', () => {
    const names = Array.from({ length: maxNames }, (_, i) => `n${i}.example.com`);
    expect(parseNames([...names, 'N1.example.com'], http01)).toEqual(names);
    expect(problemsOf([...names, 'one-more.example.com'])).toEqual(['names too_many_names']);
  });

  it('must be there', () => {
    expect(problemsOf([])).toEqual(['names names_missing']);
  });

  it('are all looked at: every bad one is told with its place', () => {
    expect(problemsOf(['SRVDEVAPP01', 'good.example.com', '10.0.0.1', 'co.uk'])).toEqual([
      'names[0] name_not_public',
      'names[2] name_is_ip_address',
      'names[3] name_is_public_suffix',
    ]);
    expect(() => parseNames(['x.local'], http01, 'source')).toThrow(
      expect.objectContaining({ code: 'name_not_public', problems: [expect.objectContaining({ path: 'source[0]' })] }),
    );
  });

  it('are checked quickly, however many are sent', () => {
    const names = Array.from({ length: 1_000 }, (_, i) => `n${i}.example.com`);
    const start = performance.now();
    expect(problemsOf(names, dns01)).toEqual(['names too_many_names']);
    expect(performance.now() - start).toBeLessThan(1_000);
  });
});

describe('a certificate name covers', () => {
  it.each([
    ['a.example.com', 'A.EXAMPLE.com', true],
    ['*.example.com', 'a.example.com', true],
    ['*.example.com', 'a.b.example.com', false],
    ['*.example.com', 'example.com', false],
    ['*.example.com', '*.example.com', true],
    ['*.example.com', '*.b.example.com', false],
    ['a.example.com', 'b.example.com', false],
    ['xn--mnchen-3ya.de', 'münchen.de', true],
    ['a.example.com', '', false],
  ])('%s over %j: %s', (name, host, expected) => {
    expect(nameCovers(name, host)).toBe(expected);
  });
});
