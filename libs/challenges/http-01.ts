import { CertlineError } from '../errors.ts';
import type { Solver } from './solver.ts';
import type { WebReader } from './web-reader.ts';

/** Path below which http-01 answers are served (RFC 8555 §8.3). */
export const challengePath = '/.well-known/acme-challenge/';

export interface Http01Options {
  read: WebReader;
  /** Port the CA will ask: 80, but in a lab. */
  port: number;
  /** Whether `check` looks at all. */
  selfCheck: boolean;
}

/** Attempts, over about ten minutes, after which a wrong answer fails the order: somebody has to mend the host. */
const attempts = 8;

/** http-01: answers from the store, served by any API process (RFC 8555 §8.3). */
export function createHttp01Solver({ read, port, selfCheck }: Http01Options): Solver<'http-01'> {
  return {
    prepare: async (challenge) => ({ ...challenge, type: 'http-01' }),
    // The save that says so has put it into the store.
    async present() {},
    async check({ name, token, keyAuthorization }, signal) {
      if (!selfCheck) return;
      const authority = port === 80 ? name : `${name}:${port}`;
      const url = `http://${authority}${challengePath}${token}`;
      const seen = await read(url, signal);
      const plan = { kind: 'retryable', attempts } as const;
      if ('error' in seen) {
        throw new CertlineError('http01_unreachable', `${url}: ${seen.error}`, { plan, evidence: { url, ...seen } });
      }
      if (seen.status !== 200 || seen.body.trimEnd() !== keyAuthorization) {
        // The start of a body tells a proxy's error page from a wrong account's answer.
        const evidence =
          seen.url === url
            ? { ...seen, body: seen.body.slice(0, 200) }
            : { url, redirectedTo: seen.url, status: seen.status };
        const words = seen.status === 200 ? 'another text' : `status ${seen.status}`;
        throw new CertlineError('http01_wrong_answer', `${url} answers with ${words} (${seen.address})`, {
          plan,
          evidence,
        });
      }
    },
  };
}
