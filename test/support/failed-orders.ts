import { readConfig } from '#libs/config';
import { CertlineError, type ErrorCode } from '#libs/errors';
import { newId } from '#libs/model/ids';
import type { FailedOrder, OrderRequest } from '#libs/model/order';
import { failed, newDeployment, newOrder, orderError } from '#libs/model/transitions';
import { openResources, type Resources } from '#libs/service/resources';
import type { Store } from '#libs/store/store';
import { sections, startApi } from '../../services/api/service.ts';
import { type ApiClient, createApiClient } from '../../services/lab/api-client.ts';
import { orderRequest } from './sample-orders.ts';

/** The API over a Redis of a test, without anything else beside it. */
export interface BareApi {
  client: ApiClient;
  resources: Resources;
  close(): Promise<void>;
}

export async function startBareApi(redisUrl: string, env: Record<string, string> = {}): Promise<BareApi> {
  const key = 'certline_for-the-tests-of-failed-orders';
  const settings = { REDIS_URL: redisUrl, API_PORT: '0', CHALLENGE_PORT: '0', LOG_LEVEL: 'silent' };
  const config = readConfig([...sections, 'log'], { ...settings, BOOTSTRAP_API_KEY: key, ...env });
  const resources = await openResources('api', 'api', config);
  const api = await startApi(resources, config);
  return {
    client: createApiClient(api.url, key),
    resources,
    async close() {
      await api.stop();
      await resources.close();
    },
  };
}

/** What is to be said of an order that has failed. */
export interface Failure {
  code?: ErrorCode;
  request?: Partial<OrderRequest>;
  /** When it was placed, ms since the epoch. */
  at?: number;
  /** Whether it has got as far as deployment. */
  issued?: boolean;
}

/** An order that has failed, as the workers leave it. */
export async function placeFailed(store: Store, { code = 'http01_unreachable', request, at, issued }: Failure = {}) {
  const now = at ?? Date.now();
  const id = newId('order', now);
  const asked = orderRequest({ deploy: { mode: 'none' }, ...request });
  const { order } = await store.orders.place(
    issued ? newDeployment(id, asked, 'crt_1', now) : newOrder(id, asked, now),
  );
  const stage = issued ? 'deployment' : 'validation';
  const next = failed(order, stage, orderError(new CertlineError(code, 'as the test says'), stage, now), now);
  return store.orders.save<FailedOrder>(order, next, []);
}

/** As `placeFailed`; answers the ids, the newest first, as lists have them. */
export async function placeAllFailed(store: Store, failures: readonly Failure[]): Promise<string[]> {
  const ids: string[] = [];
  for (const failure of failures) ids.unshift((await placeFailed(store, failure))?.id ?? '');
  return ids;
}
