import { Resolver } from 'node:dns/promises';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';

/** What was seen at a URL, or why nothing was. */
export type WebAnswer =
  | { status: number; body: string; address: string; url: string }
  | { error: string; address?: string };

/** Reads a URL as a CA would: GET, up to 10 redirects, certificates of https hops not checked (RFC 8555 §8.3; Boulder's VA). Never throws for what the network does. */
export type WebReader = (url: string, signal: AbortSignal) => Promise<WebAnswer>;

const maxRedirects = 10;
const maxBody = 4_096;
const timeoutMs = 10_000;

/** What the resolvers of Node and of the system say of a name that is not there, or has no address. */
const isAbsence = (error: unknown): error is Error & { hostname: string } =>
  error instanceof Error && 'hostname' in error && 'code' in error && /^E(NOTFOUND|NODATA)$/.test(String(error.code));

export type Lookup = (host: string) => Promise<string[]>;

/** Looks names up at the given servers (`address:port`), or as the system does when there are none. */
export function createLookup(servers: readonly string[]): Lookup | null {
  if (servers.length === 0) return null;
  const resolver = new Resolver({ timeout: 3_000, tries: 2 });
  resolver.setServers(servers);
  return async (host) => {
    const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    if (addresses.length > 0) return addresses;
    const reasons = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : []));
    throw reasons.find((reason) => !isAbsence(reason)) ?? reasons[0] ?? new Error(`no address for ${host}`);
  };
}

function nodeLookup(lookup: Lookup): LookupFunction {
  return (host, options, callback) => {
    lookup(host).then(
      (addresses) => {
        const all = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
        const [first] = all;
        if (options.all) callback(null, all);
        else callback(null, first?.address ?? '', first?.family ?? 4);
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 4),
    );
  };
}

interface Hop {
  status: number;
  location: string | undefined;
  body: string;
  address: string;
}

function readOnce(url: URL, lookup: Lookup | null, signal: AbortSignal): Promise<Hop> {
  return new Promise((resolve, reject) => {
    const options = {
      signal,
      agent: false,
      headers: { 'user-agent': 'certline', accept: '*/*' },
      ...(lookup ? { lookup: nodeLookup(lookup) } : {}),
    };
    const answered = (response: IncomingMessage): void => {
      const address = `${response.socket.remoteAddress ?? '?'}:${response.socket.remotePort ?? '?'}`;
      const chunks: Buffer[] = [];
      let size = 0;
      const done = (): void => {
        const body = Buffer.concat(chunks).subarray(0, maxBody).toString('utf8');
        resolve({ status: response.statusCode ?? 0, location: response.headers.location, body, address });
        response.destroy();
      };
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size >= maxBody) done();
      });
      response.on('end', done);
      response.on('error', reject);
    };
    const request =
      url.protocol === 'https:'
        ? httpsRequest(url, { ...options, rejectUnauthorized: false }, answered)
        : httpRequest(url, options, answered);
    request.on('error', reject);
    request.end();
  });
}

function inWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // The caller's own abort is thrown on before: what is left is the timeout, as a request tells it.
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return `no answer within ${timeoutMs / 1000} s`;
  if (isAbsence(error)) return `${error.hostname} has no address (A, AAAA)`;
  const code = 'code' in error && typeof error.code === 'string' ? error.code : null;
  return error.message || code || error.name;
}

/**
 * `ports`: where redirects may lead, as a CA would follow them. One deadline holds for all hops together.
 * What is seen after a redirect is told by its status alone: whoever orders a name must not be able to read our network through it.
 */
export function createWebReader(lookup: Lookup | null, ports: readonly number[] = [80, 443]): WebReader {
  return async (start, caller) => {
    const signal = AbortSignal.any([caller, AbortSignal.timeout(timeoutMs)]);
    let url = new URL(start);
    for (let hop = 0; hop <= maxRedirects; hop += 1) {
      let seen: Hop;
      try {
        seen = await readOnce(url, lookup, signal);
      } catch (error) {
        if (caller.aborted) throw caller.reason;
        return { error: hop > 0 ? `redirected to ${url.href}, which cannot be read` : inWords(error) };
      }
      const { status, location, body, address } = seen;
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined)
        return { status, body, address, url: url.href };
      try {
        url = new URL(location, url);
      } catch {
        return { error: `redirects to ${location}, which is not a URL`, address };
      }
      if (url.protocol !== 'http:' && url.protocol !== 'https:')
        return { error: `redirects to ${url.protocol}`, address };
      const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
      if (!ports.includes(port))
        return { error: `redirects to port ${port}; a CA follows to ${ports.join(' and ')} only`, address };
    }
    return { error: `more than ${maxRedirects} redirects` };
  };
}
