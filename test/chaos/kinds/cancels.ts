import { type StageName, stageNames } from '#libs/model/order';
import type { ClientKind, EndedOrder } from './kind.ts';

const lookMs = 100;
/** What a client is told that came too late: the order has ended. */
const tooLate = 'too late';
const hasEnded = ({ complete, status }: Record<string, unknown>): boolean => complete === true || status === 'failed';

/** A certificate was issued only if the order came so far, and none before. */
function wrongAtCa({ plan: { name }, order, thumbprint, atCa }: EndedOrder): string[] {
  if (order.status !== 'cancelled') return [];
  const count = atCa.filter(({ certificate }) => certificate !== null).length;
  const words = `${name} was called off in ${order.stage}, and the CA issued ${count} certificates`;
  if (order.stage === 'validation') return count === 0 ? [] : [words];
  return count === 1 || (thumbprint === null && count === 0) ? [] : [words];
}

/** A client that calls its order off, in any stage. While a worker deploys it asks again, as the answer says. */
export const cancels: ClientKind = {
  share: 0.15,
  async act({ client, plan, wait }) {
    const path = `/v1/orders/${plan.id}`;
    for (;;) {
      const { body } = await client.ask('GET', path);
      if (hasEnded(body)) return tooLate;
      const stage = body.stage as StageName;
      if (stageNames.indexOf(stage) >= stageNames.indexOf(plan.cancelsIn)) break;
      await wait(lookMs);
    }
    await wait(plan.thinksMs / 10);
    for (;;) {
      const { status, body } = await client.ask('POST', `${path}/cancel`);
      if (status === 200) return 'cancelled';
      if (status !== 409) return `${status}: ${JSON.stringify(body)}`;
      if (hasEnded((await client.ask('GET', path)).body)) return tooLate;
      await wait(lookMs);
    }
  },
  endOf: ({ told }) => (told === tooLate ? 'deployed' : String(told)),
  ends: 1,
  audit: async (_world, ended) => ended.flatMap(wrongAtCa),
};
