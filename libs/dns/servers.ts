import { getServers } from 'node:dns';
import { isIP, isIPv6 } from 'node:net';
import type { DnsServer } from './exchange.ts';

/** An address with or without a port: `192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53`, `[2001:db8::53]:5353`. */
const written = /^(?:\[([^\]]+)\]|([^[\]:]+))(?::(\d{1,5}))?$/;

/** Reads one server, port 53 unless it says another. Throws an `Error` that says what was expected. */
export function parseServer(text: string): DnsServer {
  const [, inBrackets, bare, port] = isIPv6(text) ? [text, text] : (written.exec(text) ?? []);
  const address = inBrackets ?? bare ?? '';
  const number = Number(port ?? 53);
  const right = inBrackets === undefined ? isIP(address) === 4 : isIPv6(address);
  if (!right || number < 1 || number > 65_535) {
    throw new Error(`${text} is no DNS server: give an address, as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353`);
  }
  return { address, port: number };
}

/** The servers that DNS_RESOLVERS names; those of the system (resolv.conf) when it names none. Throws an `Error` for a wrong one. */
export function resolverServers(named: readonly string[]): DnsServer[] {
  return (named.length > 0 ? named : getServers()).map(parseServer);
}
