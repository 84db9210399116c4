import type { Clock } from '#libs/clock';
import type { CertlineError } from '#libs/errors';
import type { Logger } from '#libs/logging';
import { connectionTrouble } from '#libs/store/redis-trouble';

/** Tells of the times when Redis does not do what it is asked, one line when such a time begins and one when it ends. */
export interface StoreOutages {
  /** Notes an error. Answers whether it was one of Redis' and so has been told of. */
  met(error: unknown): boolean;
  /** What is in the way now. */
  current(): CertlineError | null;
  /** No line comes after it. */
  close(): void;
}

export interface StoreOutagesOptions {
  clock: Clock;
  log: Logger;
  /** Where Redis is, for a person. */
  place: string;
  /** Succeeds when Redis answers and takes writes. */
  works: () => Promise<void>;
}

const lookMs = 500;

export function watchStore({ clock, log, place, works }: StoreOutagesOptions): StoreOutages {
  const closing = new AbortController();
  let under: CertlineError | null = null;

  async function untilOver(since: number): Promise<void> {
    do await clock.sleep(lookMs, closing.signal);
    while (
      !(await works().then(
        () => true,
        () => false,
      ))
    );
    under = null;
    log.info({ seconds: Math.round((clock.now() - since) / 100) / 10 }, `Redis at ${place} does its work again`);
  }

  return {
    met(error) {
      const trouble = connectionTrouble(error);
      if (trouble === null) return false;
      if (!under && !closing.signal.aborted) {
        under = trouble;
        const cause = error instanceof Error && error.message ? error.message : trouble.message;
        log.warn({ code: trouble.code }, `${trouble.message} (${place}): ${cause}; trying again until it does`);
        // The end of the process is the only thing that stops it.
        untilOver(clock.now()).catch(() => {});
      }
      return true;
    },
    current: () => under,
    close: () => closing.abort(),
  };
}
