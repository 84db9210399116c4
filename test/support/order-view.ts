import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '#libs/clock';
import type { Resources } from '#libs/service/resources';
import { createApp } from '../../services/api/app.ts';
import { ensureFirstKey } from '../../services/api/authenticate.ts';
import { orderRoutes } from '../../services/api/orders.ts';
import { createApiClient } from '../../services/lab/api-client.ts';

type Json = Record<string, unknown>;

/** `GET /v1/orders/:id` of the API, over the store of a test. */
export interface OrderView {
  read(id: string): Promise<Json>;
  close(): Promise<void>;
}

const notHere = (): Promise<never> => Promise.reject(new Error('this API takes no orders'));

/** The API as far as it shows orders: everything else of it would need more than a store. */
export async function startOrderView(resources: Resources, clock: Clock): Promise<OrderView> {
  const { store, producer, log } = resources;
  const intake = { order: notHere, preview: notHere };
  const routes = orderRoutes({
    orders: store.orders,
    producer,
    intake,
    validation: { check: notHere },
    maxOpenOrders: 0,
    clock,
    log,
  });
  const reading = routes.filter(({ method, path }) => method === 'get' && path === '/v1/orders/:id');
  const app = createApp(
    reading,
    { ...resources, clock },
    { requestsPerMinute: 100_000, trustedProxies: [], streamsPerKey: 100 },
  );
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const key = await ensureFirstKey(store.apiKeys, undefined, clock);
  const { port } = server.address() as AddressInfo;
  const client = createApiClient(`http://127.0.0.1:${port}`, key ?? '');
  return {
    read: (id) => client.send('GET', `/v1/orders/${id}`),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
