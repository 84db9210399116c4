import { describe, expect, it } from 'vitest';
import { isLoopbackAddress, isPublicAddress } from '#libs/outgoing/public-address';

describe('an address', () => {
  it.each([
    '1.1.1.1',
    '9.255.255.255',
    '172.15.0.1',
    '172.32.0.1',
    '192.167.1.1',
    '223.255.255.255',
    '2606:4700::1111',
  ])('of the internet is public: %s', (address) => expect(isPublicAddress(address)).toBe(true));

  it.each([
    ...[
      '0.0.0.0',
      '10.1.2.3',
      '100.64.0.1',
      '127.0.0.1',
      '127.255.0.9',
      '169.254.169.254',
      '172.16.0.1',
      '172.31.255.1',
    ],
    ...[
      '192.0.0.1',
      '192.0.2.1',
      '192.168.1.1',
      '198.18.0.1',
      '198.51.100.1',
      '203.0.113.1',
      '224.0.0.1',
      '255.255.255.255',
    ],
    ...['::', '::1', 'fe80::1', 'fe80::1%eth0', 'fc00::1', 'fd12::1', 'ff02::1', '2001:db8::1', '3fff::1', '100::1'],
    // IPv4 in disguise: mapped, compatible, NAT64, 6to4, Teredo
    ...[
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::127.0.0.1',
      '64:ff9b::a00:1',
      '2002:7f00:1::',
      '2001::1',
      '::ffff:1.1.1.1',
    ],
    ...['', 'example.com', '127.1', '0x7f.0.0.1'],
  ])('of anything else is not: %j', (address) => expect(isPublicAddress(address)).toBe(false));

  it('of this machine is told from those of others', () => {
    expect(['127.0.0.1', '127.8.8.8', '::1'].map(isLoopbackAddress)).toEqual([true, true, true]);
    expect(['128.0.0.1', '10.0.0.1', '::2', '::ffff:127.0.0.1', 'localhost'].some(isLoopbackAddress)).toBe(false);
  });
});
