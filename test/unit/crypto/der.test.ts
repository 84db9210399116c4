import { describe, expect, test } from 'vitest';
import { bmpString, encode, integer, octetString, setOf } from '#libs/crypto/der';

describe('DER', () => {
  test('orders the members of a set by their encodings, whatever order they are given in', () => {
    const long = () => octetString(Buffer.of(1, 2));
    const short = () => octetString(Buffer.of(9));
    const number = () => integer(7);
    const expected = '310a02010704010904020102';
    expect(encode(setOf(long(), short(), number())).toString('hex')).toBe(expected);
    expect(encode(setOf(number(), long(), short())).toString('hex')).toBe(expected);
  });

  test('writes text of a BMPString in UTF-16BE', () => {
    expect(encode(bmpString('é𝄞')).toString('hex')).toBe('1e0600e9d834dd1e');
  });
});
