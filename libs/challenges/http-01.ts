import type { PresentedHttp } from '../model/order.ts';
import type { HttpCheck } from './http-check.ts';
import type { Solver } from './solver.ts';

/** http-01: answers from the store, served by any API process (RFC 8555 §8.3). */
export function createHttp01Solver({ look }: HttpCheck): Solver<PresentedHttp<'responder'>> {
  return {
    prepare: async ({ name, token, keyAuthorization, expires }) => ({
      ...{ type: 'http-01', via: 'responder', name, token, keyAuthorization, expires },
    }),
    // The save that says so has put it into the store.
    async present() {},
    check: look,
  };
}
