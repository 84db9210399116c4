import { createHttp01Solver } from '#libs/challenges/http-01';
import { createTargetSolver } from '#libs/challenges/http-01-target';
import { createWebrootSolver } from '#libs/challenges/http-01-webroot';
import { createHttpCheck, type HttpCheck } from '#libs/challenges/http-check';
import { createOutsideLook } from '#libs/challenges/outside-look';
import type { Solver } from '#libs/challenges/solver';
import type { Webroots } from '#libs/challenges/webroots';
import type { Config } from '#libs/config';
import type { HttpMethod } from '#libs/model/challenge-method';
import { type AnsweringHostsDeps, createAnsweringHosts } from './answering-hosts.ts';
import type { Outlook } from './outlook.ts';

export interface HttpSolversDeps extends Pick<AnsweringHostsDeps, 'store' | 'requests' | 'log'> {
  config: Config<'validation'>;
  outlook: Pick<Outlook, 'read'>;
  webroots: Webroots;
}

/** The look at an answer, as the configuration has it. */
export function openHttpCheck({
  config,
  outlook,
  log,
}: Pick<HttpSolversDeps, 'config' | 'outlook' | 'log'>): HttpCheck {
  const { HTTP01_PORT: port, HTTP01_SELF_CHECK: selfCheck, EXTERNAL_CHECK_URL: url, EXTERNAL_CHECK_KEY: key } = config;
  const outside = url === undefined ? null : createOutsideLook({ url, key });
  return createHttpCheck({ read: outlook.read, port, selfCheck, outside, log });
}

/** What answers http-01, by who answers it. */
export function createHttpSolvers({ config, outlook, webroots, ...deps }: HttpSolversDeps) {
  const port = config.HTTP01_PORT;
  const check = openHttpCheck({ config, outlook, log: deps.log });
  const responder = createHttp01Solver(check);
  const hosts = createAnsweringHosts({ ...deps, check, port });
  /** For one method of one order. Throws `target_unknown`. */
  return async (method: HttpMethod, order: string): Promise<Solver> => {
    switch (method.via) {
      case 'responder':
        return responder as Solver;
      case 'webroot':
        return createWebrootSolver(method.folder, { webroots, check }) as Solver;
      case 'target': {
        const opened = await hosts.open(method.target, order);
        return createTargetSolver({ ...method, ...opened, check, port }) as Solver;
      }
    }
  };
}
