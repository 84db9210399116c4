import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A way between two processes that can be cut and slowed. */
export interface TcpProxy {
  readonly port: number;
  /** Where it leads; connections that come before are closed. */
  leadTo(port: number): void;
  /** Closes all connections; answers how many there were. */
  cut(): number;
  /** What every piece of data takes longer from now on, ms; 0 is as usual. */
  slow(ms: number): void;
  /** Takes no connections while it is closed. */
  shut(closed: boolean): void;
  /** Connections that came while it was closed. */
  readonly refused: number;
  /** Told of all that clients send. */
  onSent: ((data: Buffer) => void) | null;
  close(): Promise<void>;
}

export async function startTcpProxy(): Promise<TcpProxy> {
  const open = new Set<Socket>();
  let target = 0;
  let slowMs = 0;
  let closed = false;
  let refused = 0;

  /** Data keep their order, also when the pace changes. */
  function pass(from: Socket, to: Socket, told: (data: Buffer) => void): void {
    let last: Promise<unknown> = Promise.resolve();
    from.on('data', (data: Buffer) => {
      told(data);
      const late = delay(slowMs);
      last = last.then(() => late).then(() => to.destroyed || to.write(data));
    });
    from.on('end', () => {
      last = last.then(() => to.end());
    });
    from.on('error', () => to.destroy());
    from.on('close', () => {
      open.delete(from);
      // What is under way still arrives.
      void last.then(() => to.destroy());
    });
  }

  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    if (closed || target === 0) {
      refused += 1;
      client.on('error', () => {});
      client.destroy();
      return;
    }
    const upstream = connect({ port: target, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    open.add(client).add(upstream);
    pass(client, upstream, (data) => proxy.onSent?.(data));
    pass(upstream, client, () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  const proxy: TcpProxy = {
    port: (server.address() as AddressInfo).port,
    leadTo(port) {
      target = port;
    },
    cut() {
      const count = open.size;
      for (const socket of open) socket.destroy();
      return count / 2;
    },
    slow(ms) {
      slowMs = ms;
    },
    shut(is) {
      closed = is;
    },
    get refused() {
      return refused;
    },
    onSent: null,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
  return proxy;
}
