import { CertlineError } from '../errors.ts';

/**
 * Runs something that may take `limitMs` milliseconds in all. When that is over it fails as `dns_lookup_failed`; when the caller's signal is
 * aborted, with its reason.
 */
export async function withinLimit<T>(
  what: string,
  limitMs: number,
  caller: AbortSignal,
  action: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  caller.throwIfAborted();
  const limit = AbortSignal.timeout(limitMs);
  try {
    return await action(AbortSignal.any([caller, limit]));
  } catch (error) {
    caller.throwIfAborted();
    if (!limit.aborted || error instanceof CertlineError) throw error;
    throw new CertlineError('dns_lookup_failed', `${what}: not answered within ${limitMs / 1000} s`, { cause: error });
  }
}
