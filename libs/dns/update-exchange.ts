import { connect } from 'node:net';
import { wordsOf } from '../outgoing/request.ts';

const timeoutMs = 10_000;

/** `host:port` or `[address]:port`; 53 without a port. */
export function readServer(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/]+))(?::(\d{1,5}))?$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? 53);
  return host === undefined || port < 1 || port > 65_535 ? null : { host, port };
}

/**
 * Sends one message over TCP and gives the first that comes back. A host name is looked up, and its addresses are tried one after the other.
 * Throws an `Error` with words for a person when none comes in 10 s, or the signal's reason.
 */
export async function exchangeOverTcp(server: string, message: Buffer, signal: AbortSignal): Promise<Buffer> {
  signal.throwIfAborted();
  const place = readServer(server);
  if (place === null) throw new Error(`${server} is no host:port`);
  const limit = AbortSignal.timeout(timeoutMs);
  const stop = AbortSignal.any([signal, limit]);
  const socket = connect({ ...place, autoSelectFamily: true });
  const end = (): void => void socket.destroy(stop.reason);
  stop.addEventListener('abort', end, { once: true });
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      const chunks: Buffer[] = [];
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('closes the connection without an answer')));
      socket.once('connect', () => {
        const length = Buffer.alloc(2);
        length.writeUInt16BE(message.length);
        socket.write(Buffer.concat([length, message]));
      });
      socket.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        const all = Buffer.concat(chunks);
        const whole = all.length < 2 ? Number.POSITIVE_INFINITY : 2 + all.readUInt16BE(0);
        if (all.length >= whole) resolve(all.subarray(2, whole));
      });
    });
  } catch (thrown) {
    signal.throwIfAborted();
    throw new Error(limit.aborted ? `does not answer in ${timeoutMs / 1000} s` : wordsOf(thrown), { cause: thrown });
  } finally {
    stop.removeEventListener('abort', end);
    socket.destroy();
  }
}
