import type { Config } from '#libs/config';
import { openIisHost } from '#libs/iis/hosts';
import { startTargetWorker } from '#libs/queues/stage-worker';
import { createCertificateReader } from '#libs/service/certificate-reader';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createDeployHandler } from './deploy.ts';

export const sections = ['secrets', 'pipeline'] as const;

/** Starts the deployment stage. */
export async function startDeploymentWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const { store } = resources;
  const handler = createDeployHandler({
    findTarget: store.targets.get,
    openHost: openIisHost,
    openCertificate: createCertificateReader(store, await openSecretBox(resources.store, config)),
  });
  const worker = startTargetWorker(handler, workerSettings(resources, config));
  return { stop: () => worker.stop(graceMs) };
}
