import { asCertlineError, CertlineError, type ErrorCode } from '#libs/errors';
import type { NameCheck } from '#libs/model/validation-checks';
import { orAborted } from '#libs/or-aborted';

/** How long one look may take, ms. */
const limitMs = 10_000;

/** What a look that came to no end would have been an order's error. */
const lateCode: Record<NameCheck['check'], ErrorCode> = {
  caa: 'dns_lookup_failed',
  address: 'dns_lookup_failed',
  'http-01': 'http01_unreachable',
  budget: 'store_unavailable',
  zone: 'dns_lookup_failed',
  credential: 'dns_provider_unreachable',
  target: 'target_timeout',
  folder: 'target_timeout',
};

export interface Looks {
  /** Aborted when nobody waits for the findings any more, or the time for all of them is over. */
  signal: AbortSignal;
  /**
   * Does one look at a name and notes what came of it: the words that `work` answers with when all is well, else what it throws. Answers whether
   * all is well.
   */
  look(
    name: string,
    check: NameCheck['check'],
    work: (signal: AbortSignal) => Promise<string> | string,
  ): Promise<boolean>;
  findings: NameCheck[];
}

/** Looks that hide nothing of each other. @param allMs for all of them together, ms */
export function createLooks(asker: AbortSignal, allMs: number): Looks {
  const findings: NameCheck[] = [];
  const over = AbortSignal.timeout(allMs);
  const signal = AbortSignal.any([asker, over]);

  function errorOf(thrown: unknown, check: NameCheck['check'], own: AbortSignal): CertlineError {
    if (thrown instanceof CertlineError || !(own.aborted || over.aborted)) return asCertlineError(thrown);
    const words = over.aborted
      ? 'not looked at: there was no time left for it, look at fewer names at once'
      : `no end within ${limitMs / 1000} s`;
    return new CertlineError(lateCode[check], words);
  }

  return {
    ...{ signal, findings },
    async look(name, check, work) {
      const own = AbortSignal.timeout(limitMs);
      const within = AbortSignal.any([signal, own]);
      try {
        within.throwIfAborted();
        const detail = await orAborted(Promise.resolve(work(within)), within);
        findings.push({ name, check, ok: true, code: null, detail });
        return true;
      } catch (thrown) {
        asker.throwIfAborted();
        const { code, message: detail } = errorOf(thrown, check, own);
        findings.push({ name, check, ok: false, code, detail });
        return false;
      }
    },
  };
}
