import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { toAsciiName } from '../model/domain-name.ts';
import { type ServedCertificate, servedBy, withinTime } from './handshake.ts';

/** More than any greeting is long. */
const maxReply = 16_384;

interface Reply {
  code: number;
  text: string;
}

/**
 * Connects to an FTP server, asks for TLS (`AUTH TLS`, RFC 4217 §4) and tells which certificate is served. Where the binding has a host
 * name it is asked for with `HOST` (RFC 7151) before, as IIS tells virtual FTP sites apart by it, and sent as SNI.
 *
 * @throws CertlineError `target_unreachable` when there is no connection, or no answer within `timeoutMs`.
 * @throws CertlineError `handshake_mismatch` when the server does not greet as an FTP server, has no TLS or breaks the handshake off.
 * @throws the signal's reason when it is aborted.
 */
export function probeFtpThumbprint(
  endpoint: { host: string; port: number },
  hostName: string | null,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ServedCertificate> {
  // A host that is no domain name goes into no command: it could hold a line end.
  const name = hostName === null ? null : toAsciiName(hostName);
  const where = `ftp ${endpoint.host}:${endpoint.port}${name === null ? '' : ` (${name})`}`;
  const attempt = { where, evidence: { ...endpoint, hostName }, timeoutMs, signal };
  return withinTime(attempt, async (inTime, progress) => {
    const socket = connect(endpoint);
    socket.once('connect', () => {
      progress.connected = true;
    });
    // One that comes between two replies is met by the next of them.
    socket.on('error', () => {});
    try {
      await askForTls(socket, name, inTime);
      const secure = connectTls({ socket, rejectUnauthorized: false, ...(name === null ? {} : { servername: name }) });
      return await servedBy(secure, inTime);
    } finally {
      socket.destroy();
    }
  });
}

async function askForTls(socket: Socket, name: string | null, signal: AbortSignal): Promise<void> {
  const greeting = await nextReply(socket, signal);
  if (greeting.code !== 220) throw new Error(`it greets with "${greeting.text}"`);
  if (name !== null) {
    socket.write(`HOST ${name}\r\n`);
    // A server that knows no HOST, or not this one, has one certificate for all: that is looked at.
    await nextReply(socket, signal);
  }
  socket.write('AUTH TLS\r\n');
  const answer = await nextReply(socket, signal);
  if (answer.code !== 234) throw new Error(`it answers AUTH TLS with "${answer.text}"`);
}

/** The last line of a reply that is whole: of one that begins `220-` it is the next that begins `220 ` (RFC 959 §4.2). */
function lastLine(text: string): string | null {
  const many = /^\d{3}(?=-)/.exec(text);
  const line = new RegExp(many ? `(?:^|\\n)(${many[0]} [^\\r\\n]*)\\r?\\n` : '^([^\\r\\n]*)\\r?\\n').exec(text);
  return line?.[1] ?? null;
}

function nextReply(socket: Socket, signal: AbortSignal): Promise<Reply> {
  return new Promise((resolve, reject) => {
    let text = '';
    const settle = (finish: () => void): void => {
      socket.off('data', take).off('error', fail).off('close', closed);
      signal.removeEventListener('abort', abort);
      // What comes next is for whoever listens next: another reply, or TLS.
      socket.pause();
      finish();
    };
    const fail = (error: Error): void => settle(() => reject(error));
    const closed = (): void => fail(new Error('the connection was closed'));
    const abort = (): void => fail(signal.reason);
    const take = (data: Buffer): void => {
      text += data.toString('latin1');
      const last = lastLine(text);
      if (last !== null) settle(() => resolve({ code: Number(last.slice(0, 3)), text: last.slice(0, 200) }));
      else if (text.length > maxReply) fail(new Error('it sends no end of a reply'));
    };
    socket.on('data', take).on('error', fail).on('close', closed);
    signal.addEventListener('abort', abort, { once: true });
    socket.resume();
  });
}
