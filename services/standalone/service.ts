import type { Config } from '#libs/config';
import type { Logger } from '#libs/logging';
import { createMetrics } from '#libs/metrics/metrics';
import { openResources } from '#libs/service/resources';
import type { Service } from '#libs/service/run';
import { type ApiService, startApi } from '../api/service.ts';
import { startDeploymentWorker } from '../deployment-worker/service.ts';
import { startIssuanceWorker } from '../issuance-worker/service.ts';
import { startScheduler } from '../scheduler/service.ts';
import { startValidationWorker } from '../validation-worker/service.ts';

export const sections = [
  'redis',
  'log',
  'secrets',
  'api',
  'validation',
  'ca',
  'pipeline',
  'scheduler',
  'commands',
  'deployment',
] as const;

export interface Standalone extends Service {
  api: ApiService;
  log: Logger;
}

/** All services in one process, with one set of metrics, served by the API. */
export async function startStandalone(config: Config<(typeof sections)[number]>): Promise<Standalone> {
  const metrics = createMetrics('standalone');
  // The API must answer 503 at once when Redis is away, the workers must wait for it: two connections.
  const front = await openResources('api', 'api', config, metrics);
  const back = await openResources('worker', 'worker', config, metrics);
  const workers = [
    await startValidationWorker(back, config),
    await startIssuanceWorker(back, config),
    await startDeploymentWorker(back, config),
    startScheduler(back, config),
  ];
  const api = await startApi(front, config);
  return {
    api,
    log: front.log,
    async stop() {
      await Promise.all([api.stop(), ...workers.map((worker) => worker.stop())]);
      await front.close();
      await back.close();
    },
  };
}
