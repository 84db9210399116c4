import type { PresentedHttp } from '../model/order.ts';
import type { HttpCheck } from './http-check.ts';
import type { Solver } from './solver.ts';
import type { Webroots } from './webroots.ts';

/** http-01: a file below the root folder of a web server that has the name (RFC 8555 §8.3). */
export function createWebrootSolver(
  folder: string,
  { webroots, check }: { webroots: Webroots; check: HttpCheck },
): Solver<PresentedHttp<'webroot'>> {
  return {
    prepare: async ({ name, token, keyAuthorization, expires }) => ({
      ...{ type: 'http-01', via: 'webroot', name, token, keyAuthorization, expires, folder },
    }),
    present: ({ token, keyAuthorization }) => webroots.write(folder, token, keyAuthorization),
    check: check.look,
  };
}
