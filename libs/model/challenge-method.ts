import { z } from 'zod';

export const challengeTypes = ['http-01', 'dns-01'] as const;

const http01 = { type: z.literal('http-01') };
const dns01 = { type: z.literal('dns-01'), credential: z.string() };

/** How control over a name is proved. */
export const challengeMethodSchema = z.discriminatedUnion('type', [z.object(http01), z.object(dns01)]);
export type ChallengeMethod = z.infer<typeof challengeMethodSchema>;

const match = { match: z.string() };

/** A method for the names that a pattern matches. */
export const challengeRuleSchema = z.discriminatedUnion('type', [
  z.object({ ...match, ...http01 }),
  z.object({ ...match, ...dns01 }),
]);
export type ChallengeRule = z.infer<typeof challengeRuleSchema>;

interface ChallengeChoice {
  challenge: ChallengeMethod | null;
  challenges: readonly ChallengeRule[];
}

/** Whether a pattern is meant for a name: `*` for all, `*.corp.example` for every name below, else that name alone. */
export function matches(pattern: string, name: string): boolean {
  if (pattern === '*') return true;
  return pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) : name === pattern;
}

/** The credentials that methods are for, each once. */
export function credentialsOf({ challenge, challenges }: ChallengeChoice): string[] {
  const methods = [...challenges, ...(challenge ? [challenge] : [])];
  return [...new Set(methods.flatMap((method) => (method.type === 'dns-01' ? [method.credential] : [])))];
}

/** The method for a name: that of the first rule which matches, else the one for all others; null when there is none. */
export function methodFor({ challenge, challenges }: ChallengeChoice, name: string): ChallengeMethod | null {
  const rule = challenges.find((one) => matches(one.match, name));
  return rule ?? challenge;
}
