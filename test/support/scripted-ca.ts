import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

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
  | 'certificate';

/** What the CA does with one request instead of its usual answer. */
export type ScriptedAnswer =
  /** Never answers. */
  | 'hang'
  /** Sends the head and a little of the body, then no more. */
  | 'stall'
  /** Closes the connection without a word. */
  | 'reset'
  /** Does what it is asked, and then closes the connection without a word. */
  | 'lost'
  /** Sends a body without end. */
  | 'flood'
  | { status: number; headers?: Record<string, string>; body: string | object };

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
    const scripted = decided ?? scripts.get(operation)?.shift() ?? usual(one);
    if (scripted === 'hang') return;
    if (scripted === 'lost') usual(one);
    if (scripted === 'lost' || scripted === 'reset') return request.socket.destroy();
    if (scripted === 'stall') return response.writeHead(200, { 'content-length': '100' }).write('{"status":');
    if (scripted === 'flood') {
      const more = () => response.write('x'.repeat(65_536)) && setImmediate(more);
      response.writeHead(200).on('drain', more);
      return more();
    }
    const nonceHeader: Record<string, string> = operation === 'directory' ? {} : { 'replay-nonce': nextNonce() };
    const answer = typeof scripted.body === 'string' ? scripted.body : JSON.stringify(scripted.body);
    const send = () => response.writeHead(scripted.status, { ...nonceHeader, ...scripted.headers }).end(answer);
    if (latencyMs > 0) setTimeout(send, latencyMs);
    else send();
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
