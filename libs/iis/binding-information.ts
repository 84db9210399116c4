import { toAsciiName } from '../model/domain-name.ts';

/** The bits of `sslFlags` that decide where http.sys keeps the certificate of a binding. */
export const sslFlag = { sni: 1, centralStore: 2 } as const;

/** A `bindingInformation` taken apart. */
export interface BindingAddress {
  /** `*` for All Unassigned, else as it stands in the configuration, lower-case (`[fe80::1]`). */
  ip: string;
  port: number;
  /** In the stored spelling; empty for a binding that answers every host name. */
  host: string;
}

const allUnassigned = new Set(['', '*', '0.0.0.0', '::', '[::]']);

/** An address as IIS writes it: `*` for All Unassigned, IPv6 in brackets. */
export function bindingIp(ip: string): string {
  if (allUnassigned.has(ip)) return '*';
  const lower = ip.toLowerCase();
  return lower.includes(':') && !lower.startsWith('[') ? `[${lower}]` : lower;
}

/**
 * `ip:port:host` in its parts, split from the right because the ip may hold colons.
 * `null` where it is no such thing: net.tcp has `808:*`, others have no port at all.
 */
export function parseBindingInformation(text: string): BindingAddress | null {
  const hostColon = text.lastIndexOf(':');
  const portColon = hostColon > 0 ? text.lastIndexOf(':', hostColon - 1) : -1;
  if (portColon < 0) return null;
  const digits = text.slice(portColon + 1, hostColon);
  const port = Number(digits);
  if (!/^\d{1,5}$/.test(digits) || port < 1 || port > 65_535) return null;
  const host = text.slice(hostColon + 1);
  return { ip: bindingIp(text.slice(0, portColon)), port, host: host === '*' ? '' : host };
}

/** The inverse of `parseBindingInformation`. */
export function formatBindingInformation(address: BindingAddress): string {
  return `${address.ip}:${address.port}:${address.host}`;
}

/** What two host names are compared by: IIS keeps what was typed, often Unicode, while certificates carry punycode. */
export function hostKey(host: string): string {
  return toAsciiName(host) ?? host.toLowerCase();
}

/** Whether a client must name the host to reach the certificate; a blank host cannot use SNI. */
export function usesSni(address: BindingAddress, sslFlags: number): boolean {
  return (sslFlags & sslFlag.sni) !== 0 && address.host !== '';
}

/**
 * The name of the http.sys record that holds the certificate of an https binding: bindings with the same one share one certificate.
 * Without SNI it is one per ip:port, with SNI one per host:port whatever the ip (HTTP_SERVICE_CONFIG_SSL_KEY, …_SSL_SNI_KEY); a central
 * certificate store has one per port.
 */
export function httpSysRecord(address: BindingAddress, sslFlags: number): string {
  if ((sslFlags & sslFlag.centralStore) !== 0) return `central-store:${address.port}`;
  if (usesSni(address, sslFlags)) return `${hostKey(address.host)}:${address.port}`;
  return `${address.ip === '*' ? '0.0.0.0' : address.ip}:${address.port}`;
}

/** The http.sys record of an https binding as it stands; null where its bindingInformation is not `ip:port:host`. */
export function recordOf(binding: { bindingInformation: string; sslFlags: number }): string | null {
  const address = parseBindingInformation(binding.bindingInformation);
  return address && httpSysRecord(address, binding.sslFlags);
}
