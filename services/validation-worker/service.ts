import { createWebroots } from '#libs/challenges/webroots';
import type { Config } from '#libs/config';
import { createCaaChecks } from '#libs/dns/caa-checks';
import { caLimitTable } from '#libs/model/ca-limits';
import { createHostRequests } from '#libs/queues/host-requests';
import { startStageWorker } from '#libs/queues/stage-worker';
import { startValidationRequestWorker } from '#libs/queues/validation-requests';
import { createAccountSessions } from '#libs/service/account-sessions';
import { createDnsAccess } from '#libs/service/dns-access';
import { openSecretBox } from '#libs/service/open-secret-box';
import type { Resources } from '#libs/service/resources';
import { startRounds } from '#libs/service/rounds';
import { graceMs, type Service } from '#libs/service/run';
import { workerSettings } from '#libs/service/worker-settings';
import { cleanUpOf } from '#libs/store/presented';
import { createBudgetGuard } from './budget-guard.ts';
import { createCaaGuard } from './caa-guard.ts';
import { createNameChecks } from './check-names.ts';
import { createCleanUp } from './clean-up.ts';
import { createDnsSolvers } from './dns-solvers.ts';
import { createHttpSolvers, openHttpCheck } from './http-solvers.ts';
import { createOutlook } from './outlook.ts';
import { createRemover } from './remove.ts';
import { createReplacementFinder } from './replacement.ts';
import { createCredentialTest } from './test-credential.ts';
import { createValidateHandler } from './validate.ts';

export const sections = ['secrets', 'validation', 'ca', 'commands', 'pipeline'] as const;

/** The lease of a process that died is free after this; one that lives renews it. */
const leaseMs = 5_000;

/** Starts the validation stage, and the rounds that take away what it has written. */
export async function startValidationWorker(
  resources: Resources,
  config: Config<(typeof sections)[number]>,
): Promise<Service> {
  const { redis, store, clock, log } = resources;
  const box = await openSecretBox(resources, config);
  const limits = caLimitTable(config.CA_LIMITS);
  const sessions = createAccountSessions(resources, box, limits);
  const dns = createDnsAccess({
    ...{ store, box, clock },
    allowPrivate: config.ALLOW_PRIVATE_DNS_SERVERS,
    allowPrograms: config.ALLOW_COMMANDS,
  });
  const outlook = createOutlook(config);
  const onError = (error: Error): void => log.warn({ err: error }, 'queue of requests');
  const requests = createHostRequests({ redis, prefix: store.keys.tag, clock, onError });
  const webroots = createWebroots(config.WEBROOTS);
  const httpSolver = createHttpSolvers({ config, outlook, store, requests, webroots, log });
  const dnsSolver = createDnsSolvers({ outlook, dns, clock });
  const caa = config.CAA_CHECK ? createCaaChecks(outlook.resolver, clock) : null;
  const budget = createBudgetGuard({ store, limits });
  const replacementOf = createReplacementFinder({ certificates: store.certificates, limits });
  const handler = createValidateHandler({
    openSession: sessions.open,
    requireCaa: caa ? createCaaGuard({ caa }) : async () => {},
    budget,
    replacementOf,
    solverOf: (method, order) => (method.type === 'http-01' ? httpSolver(method, order) : dnsSolver(method)),
    async written(order, one) {
      const cleanUp = cleanUpOf(order, one, clock.now());
      if (cleanUp) await store.cleanUps.addUnlessWanted(cleanUp);
    },
  });
  const settings = workerSettings(resources, config);
  const workers = [
    startStageWorker('validation', handler, settings),
    startValidationRequestWorker(
      {
        check: createNameChecks({
          ...{ store, outlook, caa, budget, replacementOf, dns, requests, webroots, clock, openSession: sessions.open },
          ...{ httpCheck: openHttpCheck({ config, outlook, log }), httpPort: config.HTTP01_PORT },
        }),
        testCredential: createCredentialTest({ store, outlook, dns, clock }),
      },
      settings,
    ),
  ];

  const remove = createRemover({ dns, store, requests, webroots });
  const cleanUp = createCleanUp({ cleanUps: store.cleanUps, remove, clock, log });
  const cleaning = startRounds(
    (signal) => store.leases.hold('clean-up', leaseMs, (lost) => cleanUp(AbortSignal.any([signal, lost]))),
    { clock, log, what: 'the clean-up', everyMs: config.RECONCILE_INTERVAL_MS },
  );
  return {
    async stop() {
      await Promise.all([cleaning.stop(), ...workers.map((worker) => worker.stop(graceMs))]);
      await Promise.all([sessions.close(), requests.close()]);
    },
  };
}
