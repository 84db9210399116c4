import { createHttp01Solver } from '#libs/challenges/http-01';
import { createLookup, createWebReader } from '#libs/challenges/web-reader';
import type { Config } from '#libs/config';
import { startStageWorker } from '#libs/queues/stage-worker';
import { createAccountSessions } from '#libs/service/account-sessions';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createValidateHandler } from './validate.ts';

export const sections = ['secrets', 'validation', 'pipeline'] as const;

/** Starts the validation stage. */
export async function startValidationWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const sessions = createAccountSessions(resources, await openSecretBox(resources.store, config));
  const http01 = createHttp01Solver({
    read: createWebReader(createLookup(config.DNS_RESOLVERS), [80, 443, config.HTTP01_PORT]),
    port: config.HTTP01_PORT,
    selfCheck: config.HTTP01_SELF_CHECK,
  });
  const handler = createValidateHandler({ openSession: sessions.open, solvers: { 'http-01': http01 } });
  const worker = startStageWorker('validation', handler, workerSettings(resources, config));
  return {
    async stop() {
      await worker.stop(graceMs);
      await sessions.close();
    },
  };
}
