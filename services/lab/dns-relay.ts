import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';
import { StartError } from './running-program.ts';

const ANSWER_MS = 10_000;

/** Passes DNS on from one address to another until it is closed. */
export interface DnsRelay {
  close(): Promise<void>;
}

interface Place {
  address: string;
  port: number;
}

async function relayUdp(from: Place, to: Place): Promise<UdpSocket> {
  const socket = createSocket('udp4');
  const open = new Set<UdpSocket>();
  socket.on('message', (query, client) => {
    const upstream = createSocket('udp4');
    open.add(upstream);
    const end = (): void => {
      clearTimeout(timer);
      if (open.delete(upstream)) upstream.close();
    };
    const timer = setTimeout(end, ANSWER_MS);
    upstream.on('error', end);
    upstream.on('message', (answer) => {
      if (open.has(upstream)) socket.send(answer, client.port, client.address, () => {});
      end();
    });
    upstream.connect(to.port, to.address, () => {
      if (open.has(upstream)) upstream.send(query);
    });
  });
  socket.on('close', () => {
    for (const upstream of open) upstream.close();
    open.clear();
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ address: from.address, port: from.port, exclusive: true }, resolve);
  });
  return socket;
}

async function relayTcp(from: Place, to: Place): Promise<() => Promise<void>> {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(to.port, to.address);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        open.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(from.port, from.address, resolve);
  });
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of open) socket.destroy();
    });
}

/**
 * Serves a DNS server at another loopback address, over UDP and TCP. BIND listens at addresses that an interface has, and of 127.0.0.0/8
 * that is only the first; to give it others takes root.
 */
export async function startDnsRelay(from: Place, to: Place): Promise<DnsRelay> {
  try {
    const udp = await relayUdp(from, to);
    const closeTcp = await relayTcp(from, to).catch((error: unknown) => {
      udp.close();
      throw error;
    });
    return {
      close: async () => {
        await Promise.all([closeTcp(), new Promise<void>((resolve) => udp.close(() => resolve()))]);
      },
    };
  } catch (error) {
    const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    if (taken) throw new StartError(`${from.address}:${from.port} is taken`, true);
    throw error;
  }
}
