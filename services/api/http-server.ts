import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { CertlineError, type ErrorCode } from '#libs/errors';
import { rawProblem, sendProblem } from './problem-json.ts';

/** What a port takes from whoever connects to it. Times in ms. */
export interface HttpLimits {
  /** Bytes of the request line and all headers. */
  headerBytes: number;
  headers: number;
  /** Until the headers are there, and until all of the request is. */
  headersMs: number;
  requestMs: number;
  /** How long a connection may neither take nor send anything: longer than any answer takes to begin. */
  silenceMs: number;
  /** How long a body that nobody wants is read: whoever is cut off while it sends does not see the answer. */
  lingerMs: number;
  /** Requests of one connection that may wait for their answers (RFC 9112 §9.3.2). */
  pipelined: number;
  /** Connections that are served. As many again are answered that there are too many, what is beyond is cut off. */
  connections: number;
}

/** A server that holds whoever connects to limits, with an answer to everything that is refused. */
export function createHttpServer(listener: RequestListener, limits: HttpLimits): Server {
  /** The open connections with their answers that are not out yet. */
  const open = new Map<Socket, Set<ServerResponse>>();
  const surplus = new WeakSet<Socket>();

  function refusalOf({ socket, rawHeaders }: IncomingMessage): CertlineError | null {
    if (surplus.has(socket))
      return new CertlineError('too_many_connections', `${limits.connections} connections are open`);
    if ((open.get(socket)?.size ?? 0) > limits.pipelined)
      return new CertlineError('too_many_requests', `${limits.pipelined} requests of one connection wait for answers`);
    if (rawHeaders.length > 2 * limits.headers)
      return new CertlineError('headers_too_large', `there may be ${limits.headers} headers`);
    return null;
  }

  const take: RequestListener = (request, response) => {
    const { socket } = request;
    open.get(socket)?.add(response);
    response.once('close', () => open.get(socket)?.delete(response));
    response.once('finish', () => {
      if (!request.complete) setTimeout(() => request.complete || socket.destroy(), limits.lingerMs).unref();
    });
    const refusal = refusalOf(request);
    if (refusal === null) return listener(request, response);
    response.setHeader('connection', 'close');
    sendProblem(response, refusal, 0);
  };

  /** What the parser gives up on. */
  function answerUnreadable({ code = '' }: NodeJS.ErrnoException, socket: Socket): void {
    const { headerBytes, headersMs, requestMs } = limits;
    const refusals: Record<string, [ErrorCode, string]> = {
      HPE_HEADER_OVERFLOW: ['headers_too_large', `URL and headers may have ${headerBytes} bytes together`],
      HPE_CHUNK_EXTENSIONS_OVERFLOW: ['body_too_large', 'the extensions of a chunk are too large'],
      ERR_HTTP_REQUEST_TIMEOUT: [
        'request_timeout',
        `headers are to come within ${headersMs} ms, all of a request within ${requestMs} ms`,
      ],
    };
    const answers = [...(open.get(socket) ?? [])];
    // Beside another answer it would be taken for a part of that.
    const isAnswerable = answers.length < 2 && !answers.some(({ headersSent }) => headersSent);
    if (socket.writable && isAnswerable && code !== 'ECONNRESET')
      socket.write(rawProblem(new CertlineError(...(refusals[code] ?? unreadable))));
    socket.destroySoon();
  }

  const server = createServer({
    maxHeaderSize: limits.headerBytes,
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    connectionsCheckingInterval: Math.min(1_000, limits.headersMs),
  });
  server.timeout = limits.silenceMs;
  server.maxConnections = 2 * limits.connections;
  return (
    server
      .on('connection', (socket) => {
        open.set(socket, new Set());
        if (open.size > limits.connections) surplus.add(socket);
        socket.once('close', () => open.delete(socket));
      })
      .on('request', take)
      // Who reads the body says when it may come; other expectations are none that a server must know (RFC 9110 §10.1.1).
      .on('checkContinue', take)
      .on('checkExpectation', take)
      .on('connect', (_request, socket) => {
        // Node has let go of this socket: nobody else hears that it broke, or closes it.
        socket.on('error', () => {});
        socket.end(rawProblem(new CertlineError(...noProxy)), () => socket.destroy());
        setTimeout(() => socket.destroy(), limits.lingerMs).unref();
      })
      .on('clientError', answerUnreadable)
  );
}

const unreadable: [ErrorCode, string] = ['request_malformed', 'the request cannot be read as HTTP/1.1'];
const noProxy: [ErrorCode, string] = ['request_malformed', 'this is no proxy'];

export const portOf = (server: Server): number => (server.address() as AddressInfo).port;

/** Throws an `Error` in the words of the variable that names the port. */
export async function listen(server: Server, host: string, port: number, variable: string): Promise<Server> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') reject(new Error(`${variable} ${port} is taken: give another`));
      else if (error.code === 'EACCES')
        reject(new Error(`${variable} ${port} needs a right this user lacks (CAP_NET_BIND_SERVICE)`));
      else reject(error);
    });
    server.listen(port, host, resolve);
  });
  return server;
}

/** Lets answers that are under way finish for a while. */
export async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  // Event streams never end by themselves.
  setTimeout(() => server.closeAllConnections(), 2_000).unref();
  await closed;
}
