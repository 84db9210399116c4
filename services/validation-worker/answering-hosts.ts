import { type AnsweringHost, answerByHost } from '#libs/challenges/host-answers';
import type { HttpCheck } from '#libs/challenges/http-check';
import { CertlineError } from '#libs/errors';
import type { Site } from '#libs/iis/iis-host';
import type { Logger } from '#libs/logging';
import type { PresentedHttp } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { type HostRequests, webConfigs } from '#libs/queues/host-requests';
import type { Store } from '#libs/store/store';

export interface AnsweringHostsDeps {
  store: Pick<Store, 'orders' | 'targets' | 'challengeListeners'>;
  requests: HostRequests;
  check: HttpCheck;
  /** Port that the CA will ask. */
  port: number;
  log: Logger;
}

/** Does something once in a run of an order, however many of its names ask: a run has a signal of its own. */
function oncePerRun<T>(work: (target: Target, order: string, signal: AbortSignal) => Promise<T>): typeof work {
  const runs = new WeakMap<AbortSignal, Map<string, Promise<T>>>();
  return (target, order, signal) => {
    const done = runs.get(signal) ?? new Map<string, Promise<T>>();
    runs.set(signal, done);
    const answer = done.get(target.id) ?? work(target, order, signal);
    done.set(target.id, answer);
    return answer;
  };
}

/** A target that is there. Throws `target_unknown`. */
export async function requireTarget({ targets }: Pick<Store, 'targets'>, id: string): Promise<Target> {
  const target = await targets.get(id);
  if (target === null) throw new CertlineError('target_unknown', `there is no target ${id}`);
  return target;
}

/** The hosts of targets that answer challenges; a deployment worker of their pool reaches them. */
export function createAnsweringHosts({ store, requests, check, port, log }: AnsweringHostsDeps) {
  const { challengeListeners: listeners } = store;
  const sitesOf = oncePerRun(
    async (target, _order, signal): Promise<readonly Site[]> => (await requests.read(target, signal)).sites,
  );

  const hostOf = (target: Target, order: string): AnsweringHost => ({
    name: target.name,
    webConfigs,
    sites: (signal) => sitesOf(target, order, signal),
    listen: (answers, signal) => requests.listen(target, { order, port, answers: { ...answers } }, signal),
    endListener: () => listeners.drop(order, target.id),
    write: (file, signal) => requests.writeChallenge(target, file, signal),
  });

  const answerAll = oncePerRun(async (target, order, signal) => {
    // Before the order is read: if it drops the challenges after that, it drops the listener, too.
    await listeners.want(order, target.id);
    const presented = (await store.orders.get(order))?.presented ?? [];
    const challenges = presented.filter(
      (one): one is PresentedHttp<'target'> => 'via' in one && one.via === 'target' && one.target === target.id,
    );
    const host = hostOf(target, order);
    if (challenges.length > 0)
      return answerByHost(host, challenges, { check, port, log: log.child({ order, target: target.id }) }, signal);
    await host.endListener();
    return new Map<string, CertlineError>();
  });

  return {
    /** Throws `target_unknown`. */
    async open(id: string, order: string) {
      const target = await requireTarget(store, id);
      return {
        host: hostOf(target, order),
        answerAll: (signal: AbortSignal) => answerAll(target, order, signal),
      };
    },
  };
}
