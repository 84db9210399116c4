import { CertlineError, type ErrorCode, type Problem } from '#libs/errors';

/** One field of a request as the error that names it. */
export function invalid(path: string, code: ErrorCode, detail: string): CertlineError {
  return new CertlineError(code, detail, { problems: [{ path, code, detail }] });
}

/** All that is wrong with a request as one error, which has code and words of the first. */
export function refusal(problems: readonly Problem[]): CertlineError {
  const [first, ...others] = problems;
  const more = others.length > 0 ? `; and ${others.length} more, see \`errors\`` : '';
  const detail = `${first?.detail ?? 'nothing is wrong'}${more}`;
  return new CertlineError(first?.code ?? 'unexpected', detail, { problems: [...problems] });
}

/** The value of a check; a field that is wrong is noted, so that the others are looked at too. */
export async function noting<T>(problems: Problem[], check: () => T | Promise<T>): Promise<T | null> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof CertlineError) || !error.problems) throw error;
    problems.push(...error.problems);
    return null;
  }
}
