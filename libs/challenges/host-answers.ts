import { CertlineError, type ErrorCode } from '../errors.ts';
import type { Site } from '../iis/iis-host.ts';
import type { Logger } from '../logging.ts';
import type { PresentedHttp } from '../model/order.ts';
import type { ChallengeFile } from '../queues/host-requests.ts';
import { sideBySide } from '../side-by-side.ts';
import { type HttpCheck, lookPlan } from './http-check.ts';

/** The IIS host of a target, as far as it answers challenges of one order. All calls may throw `CertlineError`s. */
export interface AnsweringHost {
  /** What people call it. */
  readonly name: string;
  /** The kinds of web.config beside a file, the least first. */
  readonly webConfigs: readonly ChallengeFile['webConfig'][];
  sites(signal: AbortSignal): Promise<readonly Site[]>;
  /** Answers from a listener, by token; content when that runs already. */
  listen(answers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<void>;
  endListener(): Promise<void>;
  write(file: ChallengeFile, signal: AbortSignal): Promise<void>;
}

type Challenge = PresentedHttp<'target'>;

/** One way that was tried, and why it did not work. */
interface Attempt {
  way: string;
  code: ErrorCode;
  detail: string;
}

/** What says that one way is closed, and nothing of the others: all else is a failure of the host itself. */
const closedWay = new Set<ErrorCode>([
  ...(['http01_unreachable', 'http01_wrong_answer'] as const),
  ...(['target_refused', 'access_denied', 'binding_conflict', 'commit_conflict'] as const),
]);
const together = 4;
/** What makes a default site serve the file, where nobody looks whether it does. */
const unseen: ChallengeFile['webConfig'] = 'mime';

function failure(host: AnsweringHost, { name }: Challenge, attempts: readonly Attempt[]): CertlineError {
  const by = (code: ErrorCode): Attempt | undefined => attempts.find((one) => one.code === code);
  const telling = by('http01_wrong_answer') ?? by('http01_unreachable') ?? attempts[0];
  const [first, last] = [attempts[0], attempts.at(-1)].map((one) => `${one?.way}: ${one?.detail}`);
  const words = first === last ? first : `${first}; ${last}`;
  return new CertlineError(telling?.code ?? 'unexpected', `${host.name} does not answer for ${name}: ${words}`, {
    plan: lookPlan,
    evidence: { attempts },
  });
}

/**
 * Has a host answer challenges, each by the first way that is seen to work: a listener of http.sys, which goes before every site (all of them
 * together), else a file in the folder of the site, with each kind of web.config. Answers the errors of those that no way works for, by
 * token; throws what the host itself fails with.
 */
export async function answerByHost(
  host: AnsweringHost,
  challenges: readonly Challenge[],
  { check, port, log }: { check: HttpCheck; port: number; log: Pick<Logger, 'info'> },
  signal: AbortSignal,
): Promise<Map<string, CertlineError>> {
  const attempts = new Map(challenges.map(({ token }): [string, Attempt[]] => [token, []]));
  const closed = ({ token }: Challenge, way: string, { code, message: detail }: CertlineError): void => {
    attempts.get(token)?.push({ way, code, detail });
  };

  /** Null when it worked. */
  async function tried(work: () => Promise<void>): Promise<CertlineError | null> {
    try {
      await work();
      return null;
    } catch (thrown) {
      signal.throwIfAborted();
      if (thrown instanceof CertlineError && closedWay.has(thrown.code)) return thrown;
      throw thrown;
    }
  }

  async function isSeen(one: Challenge, way: string): Promise<boolean> {
    const problem = await tried(() => check.look(one, signal));
    if (problem) closed(one, way, problem);
    else log.info({ name: one.name }, `${host.name} answers the challenge by ${way}`);
    return problem === null;
  }

  async function byListener(): Promise<boolean[]> {
    const way = 'a listener';
    const answers = Object.fromEntries(challenges.map(({ token, keyAuthorization }) => [token, keyAuthorization]));
    const refusal = await tried(() => host.listen(answers, signal));
    if (refusal === null) return sideBySide(challenges, together, (one) => isSeen(one, way));
    for (const one of challenges) closed(one, way, refusal);
    return challenges.map(() => false);
  }

  async function byFile(one: Challenge): Promise<boolean> {
    const { site, token, keyAuthorization } = one;
    if (site === null) {
      const detail = `no site has ${one.name} in an http binding of port ${port}: there is no folder to write to`;
      closed(one, 'a file', new CertlineError('site_not_found', detail));
      return false;
    }
    for (const webConfig of check.looks ? host.webConfigs : [unseen]) {
      const way = webConfig === 'none' ? 'a file' : `a file with web.config ${webConfig}`;
      const refusal = await tried(() => host.write({ site, token, keyAuthorization, webConfig }, signal));
      if (refusal) {
        closed(one, way, refusal);
        return false;
      }
      if (await isSeen(one, way)) return true;
    }
    return false;
  }

  const heard = await byListener();
  const rest = challenges.filter((_one, at) => !heard[at]);
  if (rest.length === challenges.length) await host.endListener();
  const failed: Challenge[] = [];
  // One after the other in a site: its challenges share one web.config, and what made the first one visible does so for the next.
  await sideBySide([...Map.groupBy(rest, ({ site }) => site).values()], together, async (ofOneSite) => {
    for (const one of ofOneSite) if (!(await byFile(one))) failed.push(one);
  });
  return new Map(failed.map((one) => [one.token, failure(host, one, attempts.get(one.token) ?? [])]));
}
