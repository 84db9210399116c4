import type { Config } from '#libs/config';
import { openIisHost } from '#libs/iis/hosts';
import type { Target } from '#libs/model/target';
import { createDriftLooks } from '#libs/queues/drift-looks';
import { createDriftRepairs } from '#libs/queues/drift-repairs';
import { startDriftWorker } from '#libs/queues/drift-worker';
import { startHostRequestWorker } from '#libs/queues/host-requests';
import { startRolloutWorker } from '#libs/queues/rollout-worker';
import { startTargetWorker } from '#libs/queues/target-worker';
import { createCertificateReader } from '#libs/service/certificate-reader';
import { createHostAccess } from '#libs/service/host-access';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createUndoRecords } from '#libs/store/undo-records';
import { createHostAsker } from './answer-requests.ts';
import { byKind } from './by-kind.ts';
import { createChallengeListeners } from './challenge-listeners.ts';
import { createDeliverHandler } from './deliver.ts';
import { createDeployHandler } from './deploy.ts';
import { createDriftCheck } from './drift-check.ts';
import { keepWindows } from './maintenance.ts';
import { createTargetOpener } from './open-target.ts';

export const sections = ['secrets', 'pipeline', 'commands', 'deployment'] as const;

/** Starts the deployment stage, and the answers about hosts that the API asks for, for each of the pools. */
export async function startDeploymentWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const { store, redis } = resources;
  const { certificates } = store;
  const box = await openSecretBox(resources, config);
  const hosts = {
    findTarget: store.targets.get,
    openHost(target: Target) {
      if (target.kind !== 'iis') throw new Error(`${target.id} is no IIS host`);
      return openIisHost(target, createHostAccess(store, box, target));
    },
  };
  const openTarget = createTargetOpener({
    ...{ store, box, clock: resources.clock },
    allowCommands: config.ALLOW_COMMANDS,
    allowPrivateWebhooks: config.ALLOW_PRIVATE_WEBHOOKS,
  });
  const openCertificate = createCertificateReader(store, box);
  const undo = createUndoRecords(redis, store.keys);
  const deploy = createDeployHandler({ ...store, ...hosts, openCertificate, undo });
  const deliver = createDeliverHandler({ ...store, findTarget: hosts.findTarget, openTarget, openCertificate });
  const windows = { ...hosts, certificates, undo };
  const handler = byKind(hosts.findTarget, {
    iis: keepWindows(deploy, windows),
    delivery: keepWindows(deliver, windows),
  });
  const settings = workerSettings(resources, config);
  const check = createDriftCheck({ ...store, ...hosts, openTarget, clock: resources.clock });
  const looks = createDriftLooks({ ...store, ...settings, check, undo });
  const repairs = createDriftRepairs({ ...store, ...settings });
  const drift = { ...settings, findTarget: hosts.findTarget, looks, repairs, schedule: store.driftSchedule };
  const listeners = createChallengeListeners({
    ...{ openHost: hosts.openHost, clock: resources.clock, log: resources.log },
    isWanted: store.challengeListeners.isWanted,
  });
  const askHost = createHostAsker({ ...hosts, openTarget, looks, listeners });
  const workers = [...new Set(config.DEPLOYMENT_POOLS)].flatMap((pool) => [
    startTargetWorker(handler, settings, pool),
    startHostRequestWorker(askHost, settings, pool),
    startDriftWorker(drift, settings, pool),
  ]);
  workers.push(startRolloutWorker(settings));
  return {
    async stop() {
      await Promise.all(workers.map((worker) => worker.stop(graceMs)));
      await listeners.stop();
    },
  };
}
