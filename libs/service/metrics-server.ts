import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { asCertlineError } from '#libs/errors';
import { redisTrouble } from '#libs/store/redis-trouble';
import type { Resources } from './resources.ts';

export interface MetricsServer {
  port: number;
  close(): Promise<void>;
}

/** Serves `/metrics`, `/healthz` (the process lives) and `/readyz` (Redis answers and takes writes) for a process without an API. */
export async function startMetricsServer(
  { metrics, ready, durability }: Resources,
  host: string,
  port: number,
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const reply = async (): Promise<void> => {
      const path = request.url?.split('?')[0];
      if (path === '/metrics') {
        const text = await metrics.registry.metrics();
        response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text);
      } else if (path === '/healthz')
        response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}');
      else if (path === '/readyz') {
        await ready();
        response
          .writeHead(200, { 'content-type': 'application/json' })
          .end(JSON.stringify({ status: 'ok', redis: durability }));
      } else response.writeHead(404).end();
    };
    reply().catch((error: unknown) => {
      const { code, message: detail } = redisTrouble(error) ?? asCertlineError(error);
      const words = JSON.stringify({ status: 'unavailable', code, detail });
      response.writeHead(503, { 'content-type': 'application/json' }).end(words);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE';
      reject(taken ? new Error(`METRICS_PORT ${port} is taken: give another, or 0 for a free one`) : error);
    });
    server.listen(port, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
