import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface DnsDelivery {
  action: 'present' | 'cleanUp';
  name: string;
  value: string;
}

/** A receiver of the provider `webhook`; `answer` says when it is done. */
export async function startDnsReceiver(answer: (response: ServerResponse, delivery: DnsDelivery) => void) {
  const deliveries: DnsDelivery[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const delivery = JSON.parse(Buffer.concat(chunks).toString('utf8')) as DnsDelivery;
    deliveries.push(delivery);
    answer(response, delivery);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/dns?token=a-token-in-the-address`;
  return {
    deliveries,
    url,
    body: { name: 'receiver', kind: 'dns', provider: 'webhook', settings: { url }, secret: { secret: 'x'.repeat(32) } },
    async close() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}
