import { CertlineError } from '#libs/errors';
import type { CredentialTest, CredentialTestStep } from '#libs/model/validation-checks';

/** The steps of a test, as they are done. */
export interface TestSteps {
  /** Aborted when nobody waits for the test any more, or its time is over. */
  signal: AbortSignal;
  note(step: CredentialTestStep['step'], ok: boolean, detail: string): void;
  /**
   * Does a step and notes what came of it; null when it failed. Throws what is no finding: that nobody waits any more, that the credential
   * is gone, and what nobody foresaw.
   */
  attempt<T>(step: CredentialTestStep['step'], work: () => Promise<T>, words: (done: T) => string): Promise<T | null>;
  /** Notes a failure; throws as `attempt`. */
  fail(step: CredentialTestStep['step'], thrown: unknown, more?: string): void;
  allOk(): boolean;
  result(zones: string[] | null): CredentialTest;
}

/** @param limitMs for everything that `signal` is given to, in ms */
export function createTestSteps(asker: AbortSignal, limitMs: number): TestSteps {
  const limit = AbortSignal.timeout(limitMs);
  const steps: CredentialTestStep[] = [];
  const self: TestSteps = {
    signal: AbortSignal.any([asker, limit]),
    note(step, ok, detail) {
      steps.push({ step, ok, detail });
    },
    async attempt(step, work, words) {
      try {
        const done = await work();
        self.note(step, true, words(done));
        return done;
      } catch (thrown) {
        asker.throwIfAborted();
        self.fail(step, thrown);
        return null;
      }
    },
    fail(step, thrown, more = '') {
      if (thrown instanceof CertlineError) {
        if (thrown.code === 'credential_unknown') throw thrown;
        self.note(step, false, `${thrown.code}: ${thrown.message}${more}`);
      } else if (thrown instanceof DOMException && thrown.name === 'TimeoutError')
        self.note(step, false, `not done in time${more}`);
      else throw thrown;
    },
    allOk: () => steps.every(({ ok }) => ok),
    result: (zones) => ({ zones, steps }),
  };
  return self;
}
