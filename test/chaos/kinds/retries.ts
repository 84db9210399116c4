import { type ClientKind, nothingWrong } from './kind.ts';

const lookMs = 200;

/** A client whose order has failed: what the CA had against it is mended, and it takes the order up again. */
export const retries: ClientKind = {
  share: 0.08,
  async act({ world, client, plan, wait }) {
    const path = `/v1/orders/${plan.id}`;
    while ((await client.ask('GET', path)).body.status !== 'failed') await wait(lookMs);
    await wait(plan.thinksMs / 4);
    world.authority.accept(plan.name);
    const { status, body } = await client.ask('POST', `${path}/retry`);
    // It is not failed any more: the answer to an earlier request was lost.
    return status === 202 || status === 409 ? 'taken up again' : `${status}: ${JSON.stringify(body)}`;
  },
  endOf: ({ told }) => (told === 'taken up again' ? 'deployed' : String(told)),
  ends: 2,
  audit: nothingWrong,
};
