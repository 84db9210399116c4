import { type ClientKind, usualEnd } from './kind.ts';

/** A client that sends its order once more after it was accepted, under the same key: it is the same order. */
export const repeats: ClientKind = {
  share: 0.12,
  async act({ plan, placeAgain }) {
    const { status, body } = await placeAgain();
    return status === 202 && body.id === plan.id ? 'the same' : `${status}, ${JSON.stringify(body.id ?? body)}`;
  },
  endOf: usualEnd,
  ends: 1,
  audit: async (_world, ended) =>
    ended
      .filter(({ plan }) => plan.told !== 'the same')
      .map(({ plan }) => `${plan.name} is ${plan.id}, and was answered as ${plan.told} when it was sent again`),
};
