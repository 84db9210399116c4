import type { Config } from '#libs/config';
import { startStageWorker } from '#libs/queues/stage-worker';
import { createAccountSessions } from '#libs/service/account-sessions';
import { createDnsAccess } from '#libs/service/dns-access';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { startRounds } from '#libs/service/rounds';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { createCleanUp } from './clean-up.ts';
import { createSolvers } from './solvers.ts';
import { createValidateHandler } from './validate.ts';

export const sections = ['secrets', 'validation', 'commands', 'pipeline'] as const;

/** The lease of a process that died is free after this. */
const leaseMs = 30_000;

/** Starts the validation stage, and the rounds that take away what it has written. */
export async function startValidationWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const { store, clock, log } = resources;
  const box = await openSecretBox(store, config);
  const sessions = createAccountSessions(resources, box);
  const dns = createDnsAccess({
    ...{ store, box, clock },
    allowPrivate: config.ALLOW_PRIVATE_DNS_SERVERS,
    allowPrograms: config.ALLOW_COMMANDS,
  });
  const handler = createValidateHandler({
    openSession: sessions.open,
    solverOf: createSolvers(config, dns, clock),
    async written(order, one) {
      if (one.type !== 'dns-01') return;
      const { credential, zone, record, value } = one;
      await store.cleanUps.addUnlessWanted({ order, credential, zone, record, value, at: clock.now() });
    },
  });
  const worker = startStageWorker('validation', handler, workerSettings(resources, config));

  const cleanUp = createCleanUp({ cleanUps: store.cleanUps, dns, clock, log });
  const cleaning = startRounds(
    (signal) => store.leases.hold('clean-up', leaseMs, (lost) => cleanUp(AbortSignal.any([signal, lost]))),
    { clock, log, what: 'the clean-up', everyMs: config.RECONCILE_INTERVAL_MS },
  );
  return {
    async stop() {
      await Promise.all([cleaning.stop(), worker.stop(graceMs)]);
      await sessions.close();
    },
  };
}
