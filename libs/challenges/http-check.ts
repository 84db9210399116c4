import { CertlineError } from '../errors.ts';
import type { Logger } from '../logging.ts';
import type { PresentedHttp } from '../model/order.ts';
import type { OutsideAnswer, OutsideLook } from './outside-look.ts';
import type { WebReader } from './web-reader.ts';

/** Path below which http-01 answers are served (RFC 8555 §8.3). */
export const challengePath = '/.well-known/acme-challenge/';

/** What the CA is to find at a name. */
export type HttpAnswer = Pick<PresentedHttp, 'name' | 'token' | 'keyAuthorization'>;

export interface HttpCheckOptions {
  read: WebReader;
  /** Port the CA will ask: 80, but in a lab. */
  port: number;
  /** Whether it is looked from here. */
  selfCheck: boolean;
  /** The look from another place of the world; null when there is none. */
  outside: OutsideLook | null;
  log: Pick<Logger, 'warn'>;
}

/** Whether an answer is where the CA will look for it, seen before the CA is told. */
export interface HttpCheck {
  /** False when nobody looks: then all is well. */
  readonly looks: boolean;
  /** Throws `http01_unreachable` and `http01_wrong_answer` with what was seen. */
  look(wanted: HttpAnswer, signal: AbortSignal): Promise<void>;
}

/** Attempts, over about ten minutes, after which a wrong answer fails the order: somebody has to mend the host. */
export const lookPlan = { kind: 'retryable', attempts: 8 } as const;

/** A CA is outside, too: what is seen from there counts, whatever a look from here would find (split horizon). */
export function createHttpCheck({ read, port, selfCheck, outside, log }: HttpCheckOptions): HttpCheck {
  const urlOf = ({ name, token }: HttpAnswer): string =>
    `http://${port === 80 ? name : `${name}:${port}`}${challengePath}${token}`;

  async function lookFromHere(wanted: HttpAnswer, signal: AbortSignal): Promise<void> {
    const url = urlOf(wanted);
    const seen = await read(url, signal);
    if ('error' in seen) {
      const evidence = { url, ...seen };
      throw new CertlineError('http01_unreachable', `${url}: ${seen.error}`, { plan: lookPlan, evidence });
    }
    if (seen.status === 200 && seen.body.trimEnd() === wanted.keyAuthorization) return;
    // The start of a body tells a proxy's error page from a wrong account's answer.
    const evidence =
      seen.url === url
        ? { ...seen, body: seen.body.slice(0, 200) }
        : { url, redirectedTo: seen.url, status: seen.status };
    const words = seen.status === 200 ? 'another text' : `status ${seen.status}`;
    throw new CertlineError('http01_wrong_answer', `${url} answers with ${words} (${seen.address})`, {
      plan: lookPlan,
      evidence,
    });
  }

  /** What the look from outside has to say; null when there is none, or it cannot tell. */
  async function askOutside(wanted: HttpAnswer, signal: AbortSignal): Promise<OutsideAnswer | null> {
    try {
      return outside && (await outside(wanted, signal));
    } catch (error) {
      signal.throwIfAborted();
      const why = error instanceof Error ? error.message : String(error);
      const instead = selfCheck ? 'the look from here decides' : 'nobody looks';
      log.warn({ name: wanted.name }, `the look from outside (EXTERNAL_CHECK_URL) cannot tell, ${instead}: ${why}`);
      return null;
    }
  }

  return {
    looks: selfCheck || outside !== null,
    async look(wanted, signal) {
      const answer = await askOutside(wanted, signal);
      if (answer === null) {
        if (selfCheck) await lookFromHere(wanted, signal);
        return;
      }
      if (answer.ok) return;
      const { ok: _ok, ...evidence } = answer;
      const url = urlOf(wanted);
      const code = answer.status === undefined ? 'http01_unreachable' : 'http01_wrong_answer';
      throw new CertlineError(code, `${url}, seen from outside: ${answer.reason}`, {
        plan: lookPlan,
        evidence: { url, seen: 'from outside', ...evidence },
      });
    },
  };
}
