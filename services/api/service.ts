import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Config } from '#libs/config';
import { createDriftRepairs } from '#libs/queues/drift-repairs';
import { createHostRequests } from '#libs/queues/host-requests';
import { createValidationRequests } from '#libs/queues/validation-requests';
import { createAccountSessions } from '#libs/service/account-sessions';
import { createCertificateReader, readChain } from '#libs/service/certificate-reader';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import type { Service } from '#libs/service/run';
import { createEventFeed } from '#libs/store/order-events';
import { createPrivateKeys } from '#libs/store/private-keys';
import { connectRedis } from '#libs/store/redis';
import { createUndoRecords } from '#libs/store/undo-records';
import { accountRoutes } from './accounts.ts';
import { apiKeyRoutes } from './api-keys.ts';
import { createApp } from './app.ts';
import { ensureFirstKey } from './authenticate.ts';
import { certificateRoutes } from './certificates.ts';
import { challengeListener } from './challenges.ts';
import { credentialRoutes } from './credentials.ts';
import { deploymentRoutes } from './deployments.ts';
import { driftRoutes } from './drift.ts';
import { eventRoutes } from './events.ts';
import { createHostOpener } from './hosts.ts';
import { createIntake } from './order-intake.ts';
import { orderRoutes } from './orders.ts';
import { targetRoutes } from './targets.ts';

export const sections = ['redis', 'secrets', 'api'] as const;

export interface ApiService extends Service {
  url: string;
  challengePort: number;
  /** The first API key, when it was made now: to be shown once. */
  firstKey: string | null;
}

async function listen(listener: RequestListener, host: string, port: number, variable: string): Promise<Server> {
  const server = createServer(listener);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') reject(new Error(`${variable} ${port} is taken: give another`));
      else if (error.code === 'EACCES')
        reject(new Error(`${variable} ${port} needs a right this user lacks (CAP_NET_BIND_SERVICE)`));
      else reject(error);
    });
    server.listen(port, host, resolve);
  });
  return server;
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port;

async function close(server: Server): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  // Event streams never end by themselves.
  setTimeout(() => server.closeAllConnections(), 2_000).unref();
  await closed;
}

/** Starts the API and the port for challenges. */
export async function startApi(resources: Resources, config: Config<(typeof sections)[number]>): Promise<ApiService> {
  const { redis, store, producer, clock, log } = resources;
  const feedConnection = connectRedis(config.REDIS_URL ?? '', 'worker', (error) =>
    log.warn({ err: error }, 'Redis connection'),
  );
  const feed = createEventFeed(feedConnection, store.keys, (error) => log.warn({ err: error }, 'event feed'));
  const box = config.MASTER_KEY ? await openSecretBox(store, config) : null;
  const sessions = box ? createAccountSessions(resources, box) : null;
  const registrar = box && sessions ? { sessions, privateKeys: createPrivateKeys(store.secrets, box) } : null;
  const onError = (error: Error): void => log.warn({ err: error }, 'queue of requests');
  const requests = createHostRequests({ redis, prefix: store.keys.tag, clock, onError });
  const validation = createValidationRequests({ redis, prefix: store.keys.tag, clock, onError });
  const openHost = createHostOpener(requests);
  const hosts = { findTarget: store.targets.get, openHost, certificates: store.certificates };
  const intake = createIntake({
    ...{ ...hosts, findAccount: store.accounts.get, findCredential: store.credentials.get },
    clock,
  });
  const routes = [
    ...orderRoutes({ orders: store.orders, producer, intake, validation, clock, log }),
    ...eventRoutes({ findOrder: store.orders.get, findTarget: store.targets.get, history: store.history, feed }),
    ...certificateRoutes({
      certificates: store.certificates,
      readChain: (id) => readChain(store, id),
      openCertificate: box ? createCertificateReader(store, box) : null,
    }),
    ...accountRoutes({ accounts: store.accounts, orders: store.orders, producer, registrar, clock }),
    ...deploymentRoutes({ certificates: store.certificates, orders: store.orders, producer, hosts, clock, log }),
    ...credentialRoutes({ ...store, producer, validation, box, clock }),
    ...targetRoutes({ ...store, producer, undo: createUndoRecords(redis, store.keys), openHost, clock, log }),
    ...driftRoutes({ ...store, requests, repairs: createDriftRepairs({ ...store, ...resources }), log }),
    ...apiKeyRoutes(store.apiKeys, clock),
  ];
  const firstKey = await ensureFirstKey(store.apiKeys, config.BOOTSTRAP_API_KEY, clock);
  const app = createApp(routes, resources, { requestsPerMinute: config.RATE_LIMIT_PER_MINUTE });
  const server = await listen(app, config.API_HOST, config.API_PORT, 'API_PORT');
  const challenges = await listen(
    challengeListener(store.challengeAnswers.get),
    config.CHALLENGE_HOST,
    config.CHALLENGE_PORT,
    'CHALLENGE_PORT',
  );
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
