import { z } from 'zod';
import { hostKey } from '#libs/iis/binding-information';

const recordSchema = z.object({ thumbprint: z.string(), store: z.string() });

/** The certificates http.sys has, by `ip:port` (`0.0.0.0` for all addresses) and by `host:port`. */
export const recordsSchema = z.record(z.string(), recordSchema);
export type HttpSysRecord = z.infer<typeof recordSchema>;
export type HttpSysRecords = z.infer<typeof recordsSchema>;

/**
 * The record for a connection, in the order of http.sys: the exact ip:port, then the SNI host name:port, then the port on all addresses
 * (between the last two stands the central certificate store, which this host does not have). Undefined: the handshake fails.
 */
export function chooseRecord(
  records: HttpSysRecords,
  ip: string,
  port: number,
  servername: string | null,
): HttpSysRecord | undefined {
  const exact = records[`${ip}:${port}`];
  if (exact) return exact;
  if (servername !== null) {
    const host = hostKey(servername);
    const named = records[`${host}:${port}`] ?? records[`*${host.slice(host.indexOf('.'))}:${port}`];
    if (named) return named;
  }
  return records[`0.0.0.0:${port}`];
}
