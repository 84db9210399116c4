import type { Config } from '#libs/config';
import { caLimitTable } from '#libs/model/ca-limits';
import { createDriftRepairs } from '#libs/queues/drift-repairs';
import { createHostRequests } from '#libs/queues/host-requests';
import { createValidationRequests } from '#libs/queues/validation-requests';
import { createAccountSessions } from '#libs/service/account-sessions';
import { createCertificateReader, readChain } from '#libs/service/certificate-reader';
import { openSecretBox } from '#libs/service/open-secret-box';
import { outlasting } from '#libs/service/outlasting';
import type { Resources } from '#libs/service/resources';
import type { Service } from '#libs/service/run';
import { createEventFeed } from '#libs/store/order-events';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createUndoRecords } from '#libs/store/undo-records';
import { accountRoutes } from './accounts.ts';
import { apiKeyRoutes } from './api-keys.ts';
import { createApp } from './app.ts';
import { ensureFirstKey } from './authenticate.ts';
import { bulkRetryRoutes } from './bulk-retries.ts';
import { certificateRoutes } from './certificates.ts';
import { challengeListener } from './challenges.ts';
import { credentialRoutes } from './credentials.ts';
import { deploymentRoutes } from './deployments.ts';
import { driftRoutes } from './drift.ts';
import { eventRoutes } from './events.ts';
import { createHostOpener } from './hosts.ts';
import { apiLimits, challengeLimits } from './http-limits.ts';
import { close, createHttpServer, listen, portOf } from './http-server.ts';
import { createIntake } from './order-intake.ts';
import { orderRoutes } from './orders.ts';
import { targetRoutes } from './targets.ts';

export const sections = ['redis', 'secrets', 'ca', 'api'] as const;

export interface ApiService extends Service {
  url: string;
  challengePort: number;
  /** The first API key, when it was made now: to be shown once. */
  firstKey: string | null;
}

/** Starts the API and the port for challenges. */
export async function startApi(resources: Resources, config: Config<(typeof sections)[number]>): Promise<ApiService> {
  const { redis, store, producer, outages, clock, log } = resources;
  const onError = (error: unknown): void => {
    if (!outages.met(error)) log.warn({ err: error }, 'a connection to Redis');
  };
  const feed = createEventFeed(resources.connect('worker'), store.keys, onError);
  const box = config.MASTER_KEY ? await outlasting(() => openSecretBox(resources, config), resources) : null;
  const sessions = box ? createAccountSessions(resources, box, caLimitTable(config.CA_LIMITS)) : null;
  const registrar = box && sessions ? { sessions, privateKeys: createPrivateKeys(store.secrets, box) } : null;
  const requests = createHostRequests({ redis, prefix: store.keys.tag, clock, onError });
  const validation = createValidationRequests({ redis, prefix: store.keys.tag, clock, onError });
  const openHost = createHostOpener(requests);
  const hosts = { findTarget: store.targets.get, openHost, certificates: store.certificates };
  const intake = createIntake({
    ...{ ...hosts, findAccount: store.accounts.get, findCredential: store.credentials.get },
    findCertificate: store.certificates.get,
    clock,
  });
  const maxOpenOrders = config.MAX_OPEN_ORDERS_PER_KEY;
  const routes = [
    ...bulkRetryRoutes({ ...store, clock, most: config.BULK_RETRY_LIMIT }),
    ...orderRoutes({ orders: store.orders, producer, intake, validation, maxOpenOrders, clock, log }),
    ...eventRoutes({ findOrder: store.orders.get, findTarget: store.targets.get, history: store.history, feed }),
    ...certificateRoutes({
      certificates: store.certificates,
      readChain: (id) => readChain(store, id),
      openCertificate: box ? createCertificateReader(store, box) : null,
    }),
    ...accountRoutes({ accounts: store.accounts, orders: store.orders, producer, registrar, clock }),
    ...deploymentRoutes({ ...store, producer, hosts, maxOpenOrders, clock, log }),
    ...credentialRoutes({ ...store, producer, validation, box, clock }),
    ...targetRoutes({ ...store, producer, undo: createUndoRecords(redis, store.keys), openHost, clock, log }),
    ...driftRoutes({ ...store, requests, repairs: createDriftRepairs({ ...store, ...resources }), log }),
    ...apiKeyRoutes(store.apiKeys, clock),
  ];
  const firstKey = await outlasting(() => ensureFirstKey(store.apiKeys, config.BOOTSTRAP_API_KEY, clock), resources);
  const app = createApp(routes, resources, {
    requestsPerMinute: config.RATE_LIMIT_PER_MINUTE,
    trustedProxies: config.TRUSTED_PROXIES,
    streamsPerKey: config.MAX_EVENT_STREAMS_PER_KEY,
  });
  const connections = config.MAX_CONNECTIONS;
  const server = createHttpServer(app, { ...apiLimits, connections });
  await listen(server, config.API_HOST, config.API_PORT, 'API_PORT');
  const challenges = createHttpServer(challengeListener(store.challengeAnswers.get), {
    ...challengeLimits,
    connections,
  });
  await listen(challenges, config.CHALLENGE_HOST, config.CHALLENGE_PORT, 'CHALLENGE_PORT');
  const url = `http://${config.API_HOST}:${portOf(server)}`;
  log.info({ url, challengePort: portOf(challenges) }, 'api started');
  return {
    url,
    challengePort: portOf(challenges),
    firstKey,
    async stop() {
      await Promise.all([close(server), close(challenges)]);
      await feed.close();
      await Promise.all([requests.close(), validation.close()]);
      await sessions?.close();
    },
  };
}
