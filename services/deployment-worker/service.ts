import type { Config } from '#libs/config';
import { openIisHost } from '#libs/iis/hosts';
import { startTargetWorker } from '#libs/queues/stage-worker';
import { createCertificateReader } from '#libs/service/certificate-reader';
import { type Resources, requireSecretBox } from '#libs/service/resources';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createDeployHandler } from './deploy.ts';

export const sections = ['secrets', 'pipeline'] as const;

/** Starts the deployment stage. */
export function startDeploymentWorker(resources: Resources, config: Config<(typeof sections)[number]>): Service {
  const { store } = resources;
  const handler = createDeployHandler({
    findTarget: store.targets.get,
    openHost: openIisHost,
    openCertificate: createCertificateReader(store, requireSecretBox(config)),
  });
  const worker = startTargetWorker(handler, workerSettings(resources, config));
  return { stop: () => worker.stop(graceMs) };
}
