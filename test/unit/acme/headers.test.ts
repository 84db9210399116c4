import { expect, test } from 'vitest';
import { readLinks } from '#libs/acme/headers';
import { readRetryAfter } from '#libs/retry-after';

const base = 'https://ca.example/cert/1';

test('links are found by their relation, made absolute, in any of the forms of RFC 8288', () => {
  const link =
    '<https://ca.example/dir>;rel="index", </cert/1/1>; title="a, b; c" ; rel=alternate,<https://ca.example/cert/1/2>;rel="x alternate"';
  expect(readLinks({ link }, 'alternate', base)).toEqual([
    'https://ca.example/cert/1/1',
    'https://ca.example/cert/1/2',
  ]);
  expect(readLinks({ link }, 'index', base)).toEqual(['https://ca.example/dir']);
  expect(readLinks({}, 'index', base)).toEqual([]);
});

test('Retry-After is read as seconds or as a date, and without one there is none', () => {
  expect(readRetryAfter({ 'retry-after': '0' }, 5_000)).toBe(5_000);
  expect(readRetryAfter({ 'retry-after': ' 3 ' }, 5_000)).toBe(8_000);
  expect(readRetryAfter({ 'retry-after': 'Thu, 01 Jan 1970 00:00:30 GMT' }, 5_000)).toBe(30_000);
  expect(readRetryAfter({ 'retry-after': '-3' }, 5_000)).toBeNull();
  expect(readRetryAfter({}, 5_000)).toBeNull();
});

test('a Retry-After beyond all sense is cut to thirty days', () => {
  expect(readRetryAfter({ 'retry-after': '9'.repeat(400) }, 0)).toBe(30 * 86_400_000);
});
