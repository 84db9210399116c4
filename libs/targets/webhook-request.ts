import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';

/** How much of an answer is read: enough for a person to see what it is. */
const longestText = 1_000;

export interface Post {
  url: URL;
  /** The addresses of the URL's host: the connection goes to one of these, whatever DNS says by then. */
  addresses: readonly string[];
  headers: Record<string, string>;
  body: string;
  /** CA certificates to trust, PEM; null for the system's. */
  caBundle: string | null;
}

export interface PostAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  /** The start of its body. */
  text: string;
}

function lookupOf(addresses: readonly string[]): LookupFunction {
  const all = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  return (_host, options, callback) => {
    if (options.all) callback(null, all);
    else callback(null, all[0]?.address ?? '', all[0]?.family ?? 4);
  };
}

/** Sends one POST on a connection of its own and follows no redirect. Rejects with what the network or TLS says, or the signal's reason. */
export function post({ url, addresses, headers, body, caBundle }: Post, signal: AbortSignal): Promise<PostAnswer> {
  return new Promise((resolve, reject) => {
    const options: RequestOptions = {
      ...{ method: 'POST', signal, agent: false as const, lookup: lookupOf(addresses) },
      headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
    };
    const answered = (response: IncomingMessage): void => {
      const chunks: Buffer[] = [];
      let size = 0;
      // Its status is what counts: a body that breaks off, or never ends, changes nothing.
      const done = (): void => {
        const text = Buffer.concat(chunks).toString('utf8').slice(0, longestText);
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
        response.destroy();
      };
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size >= longestText) done();
      });
      response.on('end', done);
      response.on('error', done);
    };
    const sent =
      url.protocol === 'https:'
        ? httpsRequest(url, { ...options, ...(caBundle === null ? {} : { ca: caBundle }) }, answered)
        : httpRequest(url, options, answered);
    sent.on('error', reject);
    sent.end(body);
  });
}
