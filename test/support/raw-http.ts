import { connect, type Socket } from 'node:net';

export interface RawAnswer {
  status: number;
  /** Lower-case names. */
  headers: Record<string, string>;
  body: string;
}

/** The answers in what a server sent, one after the other, each with a Content-Length. */
export function answersIn(text: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = text; rest !== ''; ) {
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) break;
    const [first = '', ...lines] = rest.slice(0, end).split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => {
        const [name = '', value = ''] = line.split(/: (.*)/s);
        return [name.toLowerCase(), value];
      }),
    );
    const status = Number(first.split(' ')[1]);
    const length = status === 100 ? 0 : Number(headers['content-length'] ?? 0);
    const body = Buffer.from(rest.slice(end + 4), 'latin1').subarray(0, length);
    answers.push({ status, headers, body: body.toString('utf8') });
    rest = rest.slice(end + 4 + length);
  }
  return answers;
}

/** A connection on which a test writes what no HTTP client would. */
export interface RawConnection {
  socket: Socket;
  send(text: string | Buffer): void;
  /** Waits for so many answers. */
  answers(count: number): Promise<RawAnswer[]>;
  /** Waits until the server has closed it, and tells what it answered. */
  closed(): Promise<RawAnswer[]>;
}

export async function openRaw(url: string): Promise<RawConnection> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  let text = '';
  let news = Promise.withResolvers<void>();
  let gone = false;
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
    news.resolve();
  });
  // What comes after the server has closed is refused; that is no matter of a test.
  socket.on('error', () => {});
  socket.on('close', () => {
    gone = true;
    news.resolve();
  });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  async function until(done: () => boolean): Promise<void> {
    while (!done()) {
      await news.promise;
      news = Promise.withResolvers<void>();
    }
  }
  return {
    socket,
    send: (more) => void socket.write(more, 'latin1'),
    async answers(count) {
      await until(() => gone || answersIn(text).length >= count);
      return answersIn(text);
    },
    async closed() {
      await until(() => gone);
      return answersIn(text);
    },
  };
}

/** Sends one text on a connection of its own, and answers what the server answered until it closed. */
export async function sendRaw(url: string, text: string | Buffer): Promise<RawAnswer[]> {
  const connection = await openRaw(url);
  connection.send(text);
  return connection.closed();
}
