import type { Config } from '#libs/config';
import { startStageWorker } from '#libs/queues/stage-worker';
import { createAccountSessions } from '#libs/service/account-sessions';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createIssueHandler } from './issue.ts';

export const sections = ['secrets', 'pipeline'] as const;

/** Starts the issuance stage. */
export async function startIssuanceWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const box = await openSecretBox(resources.store, config);
  const sessions = createAccountSessions(resources, box);
  const { secrets, certificates } = resources.store;
  const handler = createIssueHandler({
    openSession: sessions.open,
    privateKeys: createPrivateKeys(secrets, box),
    certificates,
  });
  const worker = startStageWorker('issuance', handler, workerSettings(resources, config));
  return {
    async stop() {
      await worker.stop(graceMs);
      await sessions.close();
    },
  };
}
