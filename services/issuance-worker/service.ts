import type { Config } from '#libs/config';
import { caLimitTable } from '#libs/model/ca-limits';
import { startStageWorker } from '#libs/queues/stage-worker';
import { createAccountSessions } from '#libs/service/account-sessions';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { createRewrapping } from '#libs/service/rewrap-secrets';
import { startRounds } from '#libs/service/rounds';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createPrivateKeys } from '#libs/store/private-keys';
import { createIssueHandler } from './issue.ts';

export const sections = ['secrets', 'ca', 'pipeline'] as const;

/** How often is looked whether secrets are to be sealed with another master key. */
const rewrapRoundMs = 2_000;

/** Starts the issuance stage, and the rounds that seal the secrets anew after the master key was changed. */
export async function startIssuanceWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const box = await openSecretBox(resources, config);
  const sessions = createAccountSessions(resources, box, caLimitTable(config.CA_LIMITS));
  const { secrets, certificates } = resources.store;
  const handler = createIssueHandler({
    openSession: sessions.open,
    privateKeys: createPrivateKeys(secrets, box),
    certificates,
  });
  const worker = startStageWorker('issuance', handler, workerSettings(resources, config));
  const rewrapping = startRounds(createRewrapping({ ...resources.store, box, log: resources.log }), {
    ...{ clock: resources.clock, log: resources.log, what: 're-wrapping', everyMs: rewrapRoundMs },
  });
  return {
    async stop() {
      await Promise.all([worker.stop(graceMs), rewrapping.stop()]);
      await sessions.close();
    },
  };
}
