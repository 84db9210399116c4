import { z } from 'zod';

/** Challenges that are met by a TXT record. */
export const dnsChallengeTypes = ['dns-01', 'dns-account-01', 'dns-persist-01'] as const;
export type DnsChallengeType = (typeof dnsChallengeTypes)[number];
export const challengeTypes = ['http-01', ...dnsChallengeTypes] as const;

const type = z.literal('http-01');
/** Answered by the API's own responder. */
const responder = z.object({ type, via: z.literal('responder').default('responder') });
/** Answered by the IIS host that has the name. */
const target = z.object({
  ...{ type, via: z.literal('target'), target: z.string() },
  /** The site whose folder takes the answer; null: the one that has the name in a binding. */
  site: z.number().int().positive().nullable(),
});
/** Answered by a web server, from a folder that validation workers can write to. */
const webroot = z.object({ type, via: z.literal('webroot'), folder: z.string() });
const dnsType = z.enum(dnsChallengeTypes);
const dns = z.object({ type: dnsType, credential: z.string() });
/** A person makes the record. */
const manual = z.object({ type: dnsType, manual: z.literal(true) });

/** How control over a name is proved. */
export const challengeMethodSchema = z.union([responder, target, webroot, dns, manual]);
export type ChallengeMethod = z.infer<typeof challengeMethodSchema>;
export type HttpMethod = Extract<ChallengeMethod, { type: 'http-01' }>;
export type DnsMethod = Exclude<ChallengeMethod, { type: 'http-01' }>;

const methodWith = <T extends z.ZodRawShape>(shape: T) =>
  z.union([
    responder.extend(shape),
    target.extend(shape),
    webroot.extend(shape),
    dns.extend(shape),
    manual.extend(shape),
  ]);

/** A method for the names that a pattern matches. */
export const challengeRuleSchema = methodWith({ match: z.string() });
export type ChallengeRule = z.infer<typeof challengeRuleSchema>;

/** The method for one name. */
export const namedMethodSchema = methodWith({ name: z.string() });

interface ChallengeChoice {
  challenge: ChallengeMethod | null;
  challenges: readonly ChallengeRule[];
}

/** Whether a pattern is meant for a name: `*` for all, `*.corp.example` for every name below, else that name alone. */
export function matches(pattern: string, name: string): boolean {
  if (pattern === '*') return true;
  return pattern.startsWith('*.') ? name.endsWith(pattern.slice(1)) : name === pattern;
}

const methodsOf = ({ challenge, challenges }: ChallengeChoice): ChallengeMethod[] => [
  ...challenges,
  ...(challenge ? [challenge] : []),
];

/** The credentials that methods are for, each once. */
export function credentialsOf(choice: ChallengeChoice): string[] {
  return [...new Set(methodsOf(choice).flatMap((method) => ('credential' in method ? [method.credential] : [])))];
}

/** The targets whose hosts answer challenges, each once. */
export function answeringTargets(choice: ChallengeChoice): string[] {
  return [...new Set(methodsOf(choice).flatMap((method) => ('target' in method ? [method.target] : [])))];
}

/** The method for a name: that of the first rule which matches, else the one for all others; null when there is none. */
export function methodFor({ challenge, challenges }: ChallengeChoice, name: string): ChallengeMethod | null {
  const rule = challenges.find((one) => matches(one.match, name));
  return rule ?? challenge;
}
