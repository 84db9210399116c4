import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';

export interface OutgoingRequest {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  url: URL;
  /** The addresses of the URL's host: the connection goes to one of these, whatever DNS says by then. */
  addresses: readonly string[];
  headers: Record<string, string>;
  body?: string | undefined;
  /** CA certificates to trust, PEM; null for the system's. */
  caBundle: string | null;
  /** How many bytes of the answer are read; the rest is left. */
  longestBody: number;
}

export interface OutgoingAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  /** The start of its body. */
  text: string;
  /** Whether that is all of it. */
  whole: boolean;
}

function lookupOf(addresses: readonly string[]): LookupFunction {
  const all = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  return (_host, options, callback) => {
    if (options.all) callback(null, all);
    else callback(null, all[0]?.address ?? '', all[0]?.family ?? 4);
  };
}

/** Sends one request on a connection of its own and follows no redirect. Rejects with what the network or TLS says, or the signal's reason. */
export function sendRequest(request: OutgoingRequest, signal: AbortSignal): Promise<OutgoingAnswer> {
  const { method, url, addresses, headers, body, caBundle, longestBody } = request;
  return new Promise((resolve, reject) => {
    const options: RequestOptions = {
      ...{ method, signal, agent: false as const, lookup: lookupOf(addresses) },
      headers: { ...headers, ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }) },
    };
    const answered = (response: IncomingMessage): void => {
      const chunks: Buffer[] = [];
      let size = 0;
      // Whoever wants the status alone is not kept by a body that breaks off, or never ends.
      const done = (whole: boolean): void => {
        const text = Buffer.concat(chunks).subarray(0, longestBody).toString('utf8');
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text, whole });
        response.destroy();
      };
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        size += chunk.length;
        if (size >= longestBody) done(false);
      });
      response.on('end', () => done(true));
      response.on('error', () => done(false));
    };
    const sent =
      url.protocol === 'https:'
        ? httpsRequest(url, { ...options, ...(caBundle === null ? {} : { ca: caBundle }) }, answered)
        : httpRequest(url, options, answered);
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Node tells of several addresses that were tried by an error without words. */
export function wordsOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return wordsOf(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
