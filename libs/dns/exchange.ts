import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIPv6 } from 'node:net';
import { type DnsAnswer, decodeAnswer, encodeQuery, type Question } from './message.ts';

export interface DnsServer {
  /** IPv4 or IPv6. */
  address: string;
  port: number;
}

/** What came of a question. `unreachable`: there is no way from here to that address at all, as with IPv6 on a machine without it. */
export type Reply = { answer: DnsAnswer } | { failure: 'unreachable' | 'silent'; words: string };

export interface ExchangeOptions {
  /** Milliseconds that an answer over UDP, and all of one over TCP, may take. */
  timeoutMs: number;
  /** How often a question is sent over UDP. */
  tries: number;
}

/**
 * Asks one server one question: UDP with EDNS0, TCP when the answer does not fit. Datagrams from elsewhere, with another id or another
 * question are not taken. `limit` ends it as if the server were silent. Rejects only with the reason of `signal`.
 */
export type Exchange = (
  server: DnsServer,
  question: Question,
  signal: AbortSignal,
  limit?: AbortSignal,
) => Promise<Reply>;

/** Errors of this machine's own: no address of that family, or no route. */
const noWay = new Set(['ENETUNREACH', 'EADDRNOTAVAIL', 'EAFNOSUPPORT']);

/** `127.0.0.1:53`, `[::1]:53`. */
export function serverName({ address, port }: DnsServer): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}

function failed(error: unknown, how: string): Reply {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (noWay.has(code)) return { failure: 'unreachable', words: `cannot be reached from here (${code})` };
  if (code === 'ECONNREFUSED') return { failure: 'silent', words: `refuses the connection (${how})` };
  return { failure: 'silent', words: `${error instanceof Error ? error.message : String(error)} (${how})` };
}

/** One try. A socket of its own gives every query a port of its own; a connected one hears of nobody else, and of ICMP errors. */
function askByUdp(server: DnsServer, question: Question, withEdns: boolean, signal: AbortSignal): Promise<Reply> {
  return new Promise((resolve) => {
    const id = randomInt(0x1_0000);
    const socket = createSocket(isIPv6(server.address) ? 'udp6' : 'udp4');
    let unread = '';
    let settled = false;
    const settle = (reply: Reply): void => {
      if (settled) return;
      settled = true;
      signal.removeEventListener('abort', late);
      socket.removeAllListeners();
      // An error that comes after the answer is nobody's.
      socket.on('error', () => {});
      socket.close();
      resolve(reply);
    };
    const late = (): void => {
      settle({ failure: 'silent', words: unread === '' ? 'does not answer' : `sends ${unread}` });
    };
    signal.addEventListener('abort', late);
    socket.on('error', (error) => settle(failed(error, 'UDP')));
    socket.on('message', (message) => {
      try {
        const answer = decodeAnswer(message, id, question);
        // Whoever guesses ports may send anything: the true answer may still come.
        if (answer === null) unread = 'answers to other questions only';
        else settle({ answer });
      } catch {
        unread = 'answers that are not DNS';
      }
    });
    socket.connect(server.port, server.address, (error?: Error) => {
      if (error) settle(failed(error, 'UDP'));
      else if (!settled) socket.send(encodeQuery(id, question, withEdns));
    });
    if (signal.aborted) late();
  });
}

function askByTcp(server: DnsServer, question: Question, withEdns: boolean, signal: AbortSignal): Promise<Reply> {
  return new Promise((resolve) => {
    const id = randomInt(0x1_0000);
    const socket = connect({ host: server.address, port: server.port });
    const chunks: Buffer[] = [];
    const settle = (reply: Reply): void => {
      signal.removeEventListener('abort', late);
      socket.destroy();
      resolve(reply);
    };
    const late = (): void => settle({ failure: 'silent', words: 'does not answer over TCP' });
    signal.addEventListener('abort', late);
    socket.on('error', (error) => settle(failed(error, 'TCP')));
    socket.on('close', () => settle({ failure: 'silent', words: 'closes TCP connections without an answer' }));
    socket.on('connect', () => {
      const query = encodeQuery(id, question, withEdns);
      const length = Buffer.alloc(2);
      length.writeUInt16BE(query.length);
      socket.write(Buffer.concat([length, query]));
    });
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      const all = Buffer.concat(chunks);
      if (all.length < 2 || all.length < 2 + all.readUInt16BE(0)) return;
      try {
        const answer = decodeAnswer(all.subarray(2, 2 + all.readUInt16BE(0)), id, question);
        settle(answer ? { answer } : { failure: 'silent', words: 'answers another question over TCP' });
      } catch {
        settle({ failure: 'silent', words: 'sends answers that are not DNS over TCP' });
      }
    });
    if (signal.aborted) late();
  });
}

/** Servers that do not know EDNS say so with these (RFC 6891 §7); the last is BADVERS. */
const ednsRefusals = new Set(['FORMERR', 'NOTIMP', 'RCODE_16']);

export function createExchange({ timeoutMs, tries }: ExchangeOptions = { timeoutMs: 3_000, tries: 2 }): Exchange {
  return async (server, question, signal, limit) => {
    signal.throwIfAborted();
    const outer = limit ? AbortSignal.any([signal, limit]) : signal;
    const oneTry = (): AbortSignal => AbortSignal.any([outer, AbortSignal.timeout(timeoutMs)]);
    let withEdns = true;
    let reply: Reply = { failure: 'silent', words: 'does not answer' };
    for (let left = tries; left > 0; ) {
      reply = await askByUdp(server, question, withEdns, oneTry());
      signal.throwIfAborted();
      if ('failure' in reply) {
        left = reply.failure === 'unreachable' || outer.aborted ? 0 : left - 1;
      } else if (withEdns && ednsRefusals.has(reply.answer.rcode)) {
        withEdns = false;
      } else {
        break;
      }
    }
    if ('answer' in reply && reply.answer.truncated) {
      reply = await askByTcp(server, question, withEdns, oneTry());
      signal.throwIfAborted();
    }
    return reply;
  };
}
