import { nothingWrong, type ProofKind, plainName } from './kind.ts';

/** http-01, answered by the API. That no answer is left, the audit of what is in Redis says. */
export const http01: ProofKind = {
  share: 0.45,
  name: plainName,
  challenge: () => ({ type: 'http-01' }),
  audit: nothingWrong,
};
