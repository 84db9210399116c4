import { createServer, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

export interface FtpServer {
  port: number;
  /** Every command that clients sent, in turn. */
  commands: string[];
  close(): Promise<void>;
}

export interface FtpServerOptions {
  /** PEM of the certificate that a virtual host shows, by its name; `*` is shown to whoever asks for none of them. */
  certificates: () => Record<string, { key: string; cert: string }>;
  /** Lines of the greeting. */
  greeting?: readonly string[];
  /** Answers AUTH TLS with this instead of with TLS. */
  refuses?: string;
  /** Says nothing at all. */
  silent?: boolean;
}

/** An FTP server that speaks the beginning of the control connection, as RFC 4217 and RFC 7151 have it, and then real TLS. */
export async function startFtpServer(options: FtpServerOptions): Promise<FtpServer> {
  const { certificates, greeting = ['220 ready'], refuses, silent = false } = options;
  const commands: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    let host = '*';
    let text = '';
    const say = (line: string) => socket.write(`${line}\r\n`);
    const obey = (command: string): void => {
      commands.push(command);
      const [verb, word = ''] = command.split(' ');
      if (verb === 'HOST' && word in certificates()) {
        host = word;
        say('220 this is me');
      } else if (verb === 'HOST') say('504 not here');
      else if (command !== 'AUTH TLS' || refuses !== undefined) say(refuses ?? '500 what?');
      else {
        socket.off('data', take);
        say('234 go ahead');
        const secure = new TLSSocket(socket, { isServer: true, ...certificates()[host] });
        secure.on('error', () => {});
      }
    };
    const take = (data: Buffer): void => {
      text += data.toString('latin1');
      for (let end = text.indexOf('\r\n'); end >= 0; end = text.indexOf('\r\n')) {
        const command = text.slice(0, end);
        text = text.slice(end + 2);
        obey(command);
      }
    };
    socket.on('data', take);
    if (!silent) for (const line of greeting) say(line);
  });
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the FTP server has no port');
  return {
    port: address.port,
    commands,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
