import { z } from 'zod';
import type { Problem } from '#libs/errors';
import { type ChallengeMethod, type ChallengeRule, challengeTypes, methodFor } from '#libs/model/challenge-method';
import type { Credential } from '#libs/model/credential';
import { toAsciiName } from '#libs/model/domain-name';
import { noting, refusal } from './field-problems.ts';

const method = {
  type: z.string().describe(challengeTypes.join(', ')),
  credential: z.string().optional().describe('The credential of the DNS provider; with dns-01'),
};

export const challengeBody = z.strictObject(method);
export const challengesBody = z
  .array(
    z.strictObject({
      match: z.string().max(300).describe('`*` for all names, `*.corp.example` for all below it, or one name'),
      ...method,
    }),
  )
  .max(100);

export interface Challenges {
  challenge: ChallengeMethod | null;
  challenges: ChallengeRule[];
}

interface ChallengesBody {
  challenge?: z.output<typeof challengeBody> | undefined;
  challenges?: z.output<typeof challengesBody> | undefined;
}

type FindCredential = (id: string) => Promise<Credential | null>;

async function methodOf(
  { type, credential }: z.output<typeof challengeBody>,
  path: string,
  findCredential: FindCredential,
): Promise<ChallengeMethod> {
  const wrong = (field: string, code: Problem['code'], detail: string) =>
    refusal([{ path: `${path}.${field}`, code, detail }]);
  if (type === 'http-01') {
    if (credential === undefined) return { type };
    throw wrong('credential', 'request_invalid', 'http-01 needs none: a credential belongs to dns-01');
  }
  if (type !== 'dns-01')
    throw wrong('type', 'challenge_unsupported', `${type} is not offered; use ${challengeTypes.join(' or ')}`);
  if (credential === undefined)
    throw wrong('credential', 'request_invalid', 'name the credential of the DNS provider that writes the record');
  const found = await findCredential(credential);
  if (found === null) throw wrong('credential', 'credential_unknown', `there is no credential ${credential}`);
  if (found.kind !== 'dns')
    throw wrong('credential', 'request_invalid', `${credential} is of kind ${found.kind}: give one of kind dns`);
  return { type, credential };
}

const name = /^(\*\.)?[^*.]+(\.[^*.]+)*$/;

function patternOf(match: string, path: string): string {
  const pattern = match === '*' ? match : toAsciiName(match);
  if (pattern !== null && (pattern === '*' ? match === '*' : name.test(pattern))) return pattern;
  const detail = `${match} is no pattern: give \`*\`, a name, or \`*.\` before one`;
  throw refusal([{ path, code: 'request_invalid', detail }]);
}

/** How the names of a request are to be proved; http-01 when it does not say. Throws with each field that is wrong. */
export async function readChallenges(body: ChallengesBody, findCredential: FindCredential): Promise<Challenges> {
  const { challenge, challenges = [] } = body;
  const problems: Problem[] = [];
  const rules: ChallengeRule[] = [];
  for (const [at, { match, ...asked }] of challenges.entries()) {
    const path = `challenges[${at}]`;
    const pattern = await noting(problems, () => patternOf(match, `${path}.match`));
    const read = await noting(problems, () => methodOf(asked, path, findCredential));
    if (pattern !== null && read !== null) rules.push({ match: pattern, ...read });
  }
  const others = challenge
    ? await noting(problems, () => methodOf(challenge, 'challenge', findCredential))
    : challenges.length > 0
      ? null
      : ({ type: 'http-01' } as const);
  if (problems.length > 0) throw refusal(problems);
  return { challenge: others, challenges: rules };
}

/** Refuses names that no method is named for, each at its field; what is no name is not its business. */
export function requireMethods(
  names: readonly string[],
  challenges: Challenges,
  pathOf: (at: number) => string = (at) => `names[${at}]`,
): void {
  const problems = names.flatMap((typed, at): Problem[] => {
    const ascii = toAsciiName(typed);
    if (ascii === null || methodFor(challenges, ascii) !== null) return [];
    const detail = `no challenge is named for ${ascii}: add a rule to \`challenges\`, or a \`challenge\` for all others`;
    return [{ path: pathOf(at), code: 'challenge_unmatched', detail }];
  });
  if (problems.length > 0) throw refusal(problems);
}
