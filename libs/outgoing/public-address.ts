import { BlockList, isIPv4, isIPv6 } from 'node:net';

function subnets(family: 'ipv4' | 'ipv6', ...list: readonly `${string}/${number}`[]): BlockList {
  const all = new BlockList();
  for (const one of list) {
    const [net = '', prefix] = one.split('/');
    all.addSubnet(net, Number(prefix), family);
  }
  return all;
}

/** What is not of the whole internet: IANA, "IPv4 Special-Purpose Address Registry"; multicast and what is reserved. */
const special4 = subnets(
  'ipv4',
  ...(['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12'] as const),
  ...(['192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15'] as const),
  ...(['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'] as const),
);

/** All IPv6 that is given out to the internet (IANA, "IPv6 Global Unicast Address Assignments"): no loopback, no IPv4 in disguise, no NAT64. */
const global6 = subnets('ipv6', '2000::/3');
/** Of that: protocol assignments with Teredo, documentation, and 6to4, which has an IPv4 address in it. */
const special6 = subnets('ipv6', '2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20');

/** Whether an IP address is one of the public internet. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !special4.check(address, 'ipv4');
  return isIPv6(address) && global6.check(address, 'ipv6') && !special6.check(address, 'ipv6');
}

const loopback4 = subnets('ipv4', '127.0.0.0/8');

export function isLoopbackAddress(address: string): boolean {
  return isIPv4(address) ? loopback4.check(address, 'ipv4') : address === '::1';
}
