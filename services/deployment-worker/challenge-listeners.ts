import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import type { IisHost } from '#libs/iis/iis-host';
import type { Logger } from '#libs/logging';
import type { IisTarget } from '#libs/model/target';
import type { ChallengeListener } from '#libs/queues/host-requests';

export interface ChallengeListenersDeps {
  openHost(target: IisTarget): IisHost;
  /** Whether an order still wants its challenges answered by a listener on the host of a target. */
  isWanted(order: string, target: string): Promise<boolean>;
  clock: Clock;
  log: Logger;
}

/** Listeners on hosts that run on behind the question that they were started for. */
export interface ChallengeListeners {
  /**
   * Comes back when the host listens for all of the answers: no second time for one that it listens for already. Throws what opening the host
   * throws, `target_refused` when the port is not to be had, and the signal's reason; the listener stays for the next to ask.
   */
  listen(target: IisTarget, listener: ChallengeListener, signal: AbortSignal): Promise<void>;
  /** Ends all of them. */
  stop(): Promise<void>;
}

interface Running extends Pick<ChallengeListener, 'order' | 'answers'> {
  /** Id of the target. */
  target: string;
  /** Aborted when it is to end. */
  end: AbortSignal;
  /** Rejects when it cannot listen. */
  listening: Promise<void>;
  /** Never rejects. */
  ended: Promise<void>;
}

/** Looks whether a listener is still wanted, ms. */
const lookMs = 1_000;
/** Longer than a CA takes from being told to its last look; a listener that nobody ends is gone after it. */
const seconds = 300;

export function createChallengeListeners({
  openHost,
  isWanted,
  clock,
  log,
}: ChallengeListenersDeps): ChallengeListeners {
  const running = new Set<Running>();
  const stopping = new AbortController();

  function start(target: IisTarget, { order, port, answers }: ChallengeListener): void {
    const about = { order, target: target.id, port };
    const unwanted = new AbortController();
    const signal = AbortSignal.any([unwanted.signal, stopping.signal]);
    const listening = Promise.withResolvers<void>();
    // Whoever asked may have gone.
    listening.promise.catch(() => {});
    let listens = false;

    async function watch(): Promise<void> {
      // Without Redis nobody can tell: it runs for its time.
      do await clock.sleep(lookMs, signal);
      while (await isWanted(order, target.id).catch(() => true));
      unwanted.abort(new CertlineError('target_refused', `order ${order} has dropped its challenges`));
    }
    async function serve(): Promise<void> {
      const host = openHost(target);
      const onListening = (taken: readonly string[]): void => {
        if (taken.length > 0) log.info({ ...about, taken }, 'somebody on the host has a listener for it already');
        listens = true;
        listening.resolve();
      };
      try {
        await host.listenForChallenges({ port, seconds, answers }, onListening, signal);
      } finally {
        await host.close?.();
      }
    }
    watch().catch(() => {}); // it has ended
    const one: Running = {
      ...{ target: target.id, order, answers, end: signal, listening: listening.promise },
      ended: serve()
        .catch((error) => {
          listening.reject(error);
          if (listens && !signal.aborted) log.warn({ ...about, err: error }, 'a listener for challenges broke off');
        })
        .finally(() => {
          unwanted.abort();
          running.delete(one);
        }),
    };
    running.add(one);
  }

  return {
    async listen(target, listener, signal) {
      const { order, port } = listener;
      const has = (one: Running, token: string): boolean =>
        one.target === target.id && one.order === order && token in one.answers && !one.end.aborted;
      const pairs = Object.entries(listener.answers);
      const fresh = pairs.filter(([token]) => ![...running].some((one) => has(one, token)));
      // Beside one that there is for others of the order: that would answer nothing while it is started anew.
      if (fresh.length > 0) start(target, { order, port, answers: Object.fromEntries(fresh) });
      const those = [...running].filter((one) => pairs.some(([token]) => has(one, token)));
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        Promise.all(those.map(({ listening }) => listening)).then(() => resolve(), reject);
      });
    },
    async stop() {
      stopping.abort(new Error('the worker is stopping'));
      await Promise.all([...running].map(({ ended }) => ended));
    },
  };
}
