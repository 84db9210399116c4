import type { CertlineError } from '../errors.ts';
import type { PresentedHttp } from '../model/order.ts';
import { answeringSite } from './answering-site.ts';
import type { AnsweringHost } from './host-answers.ts';
import type { HttpCheck } from './http-check.ts';
import type { Solver } from './solver.ts';

export interface TargetSolverOptions {
  target: string;
  /** The site whose folder may take the answer; null: the one that serves the name. */
  site: number | null;
  host: Pick<AnsweringHost, 'sites'>;
  /** Has the host answer all challenges of the order, once in a run; the errors of those that it does not answer, by token. */
  answerAll(signal: AbortSignal): Promise<ReadonlyMap<string, CertlineError>>;
  check: HttpCheck;
  /** Port that the CA will ask. */
  port: number;
}

/** http-01: the IIS host that has the name answers (RFC 8555 §8.3). */
export function createTargetSolver(options: TargetSolverOptions): Solver<PresentedHttp<'target'>> {
  const { target, host, answerAll, check, port } = options;
  return {
    async prepare({ name, token, keyAuthorization, expires }, signal) {
      const site = options.site ?? answeringSite(await host.sites(signal), name, port);
      return { type: 'http-01', via: 'target', name, token, keyAuthorization, expires, target, site };
    },
    async present({ token }, signal) {
      const problem = (await answerAll(signal)).get(token);
      if (problem) throw problem;
    },
    check: check.look,
  };
}
