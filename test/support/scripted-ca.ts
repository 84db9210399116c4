import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export type ScriptedOperation =
  | 'directory'
  | 'newNonce'
  | 'newAccount'
  | 'account'
  | 'newOrder'
  | 'order'
  | 'authorization'
  | 'challenge'
  | 'finalize'
  | 'certificate'
  | 'renewalInfo';

/** What the CA does with one request instead of its usual answer; `ca-faults.ts` has the words for most. */
export type ScriptedAnswer =
  /** Never answers. */
  | 'hang'
  /** Sends the head and a little of the body, then no more. */
  | 'stall'
  /** Closes the connection without a word. */
  | 'reset'
  /** Does what it is asked, and then closes the connection without a word. */
  | 'lost'
  /** Does what it is asked, and closes the connection in the middle of the answer. */
  | 'torn'
  /** Sends a body without end. */
  | 'flood'
  /** Does nothing but answer this. */
  | UsualAnswer
  /** Does what it is asked, and answers what this makes of the usual answer. */
  | ((usual: UsualAnswer, base: string) => UsualAnswer)
  /** So much later: this, or what is usual. */
  | { afterMs: number; then?: ScriptedAnswer };

export interface SeenRequest {
  operation: ScriptedOperation;
  /** What follows the operation in the path. */
  id: string;
  method: string;
  headers: IncomingMessage['headers'];
  /** Of the JWS; undefined for requests that are not signed. */
  nonce: string | undefined;
  /** The key of the JWS, where it names one: in newAccount. */
  jwk: Record<string, string> | undefined;
  payload: unknown;
}

/** A CA that does what the test says, over plain HTTP on loopback, or TLS. It checks no signatures; nonces it does. */
export interface ScriptedCa {
  readonly directory: string;
  readonly port: number;
  readonly seen: SeenRequest[];
  url(operation: ScriptedOperation): string;
  /** What the next requests of an operation get, in order; after them the usual answer. */
  answer(operation: ScriptedOperation, ...answers: ScriptedAnswer[]): void;
  /** How many connections were opened. */
  connections(): number;
  close(): Promise<void>;
}

const problemType = 'urn:ietf:params:acme:error:';

/** The body of a problem. */
export const problem = (type: string, detail: string, members: object = {}) => ({
  type: problemType + type,
  detail,
  ...members,
});

const readBody = async (request: IncomingMessage) => {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
};

const asUsual = (usual: UsualAnswer): UsualAnswer => usual;

const decode = (part: string): unknown => (part === '' ? '' : JSON.parse(Buffer.from(part, 'base64url').toString()));

export interface UsualAnswer {
  status: number;
  headers?: Record<string, string>;
  body: string | object;
}

export interface ScriptedCaOptions {
  /** What every answer takes longer, as a network would. */
  latencyMs?: number;
  /** What a request gets for which nothing is scripted; null leaves it to the CA's own idea. `base` is the origin of all URLs. */
  usual?: (request: SeenRequest, base: string) => UsualAnswer | null;
  /** Decides what a request gets, as soon or late as it likes; null leaves it to what is scripted. */
  decide?: (request: SeenRequest) => Promise<ScriptedAnswer | null>;
  /** PEM: it speaks TLS. */
  tls?: { key: string; cert: string };
  /** What all URLs begin with, when it is reached through something else. */
  origin?: string;
}

export async function startScriptedCa(options: ScriptedCaOptions = {}): Promise<ScriptedCa> {
  const { latencyMs = 0, usual: given, decide, tls, origin } = options;
  const seen: SeenRequest[] = [];
  const scripts = new Map<string, ScriptedAnswer[]>();
  const nonces = new Set<string>();
  let connections = 0;
  let count = 0;

  const nextNonce = () => {
    const nonce = `nonce-${++count}`;
    nonces.add(nonce);
    return nonce;
  };

  const usual = (request: SeenRequest): UsualAnswer => given?.(request, base) ?? fixed(request.operation);
  const fixed = (operation: ScriptedOperation): UsualAnswer => {
    const order = {
      status: operation === 'newOrder' ? 'pending' : 'ready',
      identifiers: [{ type: 'dns', value: 'a.example' }],
      authorizations: [],
      finalize: url('finalize'),
    };
    if (operation === 'directory') {
      const { newNonce, newAccount, newOrder } = {
        newNonce: url('newNonce'),
        newAccount: url('newAccount'),
        newOrder: url('newOrder'),
      };
      return { status: 200, body: { newNonce, newAccount, newOrder } };
    }
    if (operation === 'newNonce') return { status: 200, body: {} };
    if (operation === 'newAccount')
      return { status: 201, headers: { location: `${base}/account/1` }, body: { status: 'valid' } };
    if (operation === 'newOrder') return { status: 201, headers: { location: url('order') }, body: order };
    return { status: 200, body: order };
  };

  /** Does with a request what is scripted for it. */
  async function perform(fault: ScriptedAnswer, one: SeenRequest, response: ServerResponse): Promise<unknown> {
    if (typeof fault === 'object' && 'afterMs' in fault) {
      await delay(fault.afterMs);
      return perform(fault.then ?? asUsual, one, response);
    }
    if (fault === 'hang') return;
    if (fault === 'reset') return response.socket?.destroy();
    if (fault === 'stall') return response.writeHead(200, { 'content-length': '100' }).write('{"status":');
    if (fault === 'flood') {
      const more = () => response.write('x'.repeat(65_536)) && setImmediate(more);
      response.writeHead(200).on('drain', more);
      return more();
    }
    const done = typeof fault === 'object' ? fault : usual(one);
    if (fault === 'lost') return response.socket?.destroy();
    const { status, headers, body } = typeof fault === 'function' ? fault(done, base) : done;
    const nonce: Record<string, string> = one.operation === 'directory' ? {} : { 'replay-nonce': nextNonce() };
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    if (latencyMs > 0) await delay(latencyMs);
    if (fault !== 'torn') return response.writeHead(status, { ...nonce, ...headers }).end(text);
    const length = { 'content-length': String(Buffer.byteLength(text)) };
    const half = text.slice(0, text.length / 2);
    return response
      .writeHead(status, { ...nonce, ...headers, ...length })
      .write(half, () => response.socket?.destroy());
  }

  async function handle(request: IncomingMessage, response: ServerResponse) {
    const [operation, id = ''] = (request.url ?? '').slice(1).split('/') as [ScriptedOperation, string?];
    const text = await readBody(request);
    const jws = text === '' ? null : JSON.parse(text);
    const { nonce, jwk } = (jws ? decode(jws.protected) : {}) as Partial<Pick<SeenRequest, 'nonce' | 'jwk'>>;
    const payload = jws ? decode(jws.payload) : undefined;
    const { method = '', headers } = request;
    const one: SeenRequest = { operation, id, method, headers, nonce, jwk, payload };
    seen.push(one);
    const fresh = nonce === undefined || nonces.delete(nonce);
    const badNonce: ScriptedAnswer = { status: 400, body: problem('badNonce', 'nobody knows this nonce') };
    const decided = fresh ? await decide?.(one) : badNonce;
    await perform(decided ?? scripts.get(operation)?.shift() ?? asUsual, one, response);
  }

  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    handle(request, response).catch((error: unknown) => {
      // One that was cut off before it was whole asked for nothing.
      if (request.complete) throw error;
    });
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  server.keepAliveTimeout = 60_000;
  server.on('connection', () => connections++);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const base = origin ?? `http${tls ? 's' : ''}://127.0.0.1:${port}`;
  const url = (operation: ScriptedOperation) => `${base}/${operation}`;

  return {
    directory: url('directory'),
    port,
    seen,
    url,
    answer: (operation, ...answers) => scripts.set(operation, [...(scripts.get(operation) ?? []), ...answers]),
    connections: () => connections,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
