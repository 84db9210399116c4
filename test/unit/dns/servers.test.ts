import { getServers } from 'node:dns';
import { describe, expect, it } from 'vitest';
import { parseServer, resolverServers } from '#libs/dns/servers';

describe('DNS_RESOLVERS', () => {
  it.each([
    ['192.0.2.53', '192.0.2.53', 53],
    ['192.0.2.53:5353', '192.0.2.53', 5353],
    ['2001:db8::53', '2001:db8::53', 53],
    ['[2001:db8::53]', '2001:db8::53', 53],
    ['[2001:db8::53]:5353', '2001:db8::53', 5353],
  ])('takes %s', (text, address, port) => {
    expect(parseServer(text)).toEqual({ address, port });
  });

  it.each(['dns.example', '192.0.2.53:0', '192.0.2.53:65536', '192.0.2', '[192.0.2.53]:53', '192.0.2.53:', ''])(
    'refuses %j and says what to give',
    (text) => {
      expect(() => parseServer(text)).toThrow(`${text} is no DNS server: give an address, as 192.0.2.53`);
    },
  );

  it('falls back to the servers of the system', () => {
    expect(resolverServers(['192.0.2.53'])).toEqual([{ address: '192.0.2.53', port: 53 }]);
    expect(resolverServers([])).toEqual(getServers().map(parseServer));
  });
});
