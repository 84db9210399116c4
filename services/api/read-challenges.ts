import { posix } from 'node:path';
import { z } from 'zod';
import type { CertlineError, Problem } from '#libs/errors';
import {
  type ChallengeMethod,
  type ChallengeRule,
  challengeTypes,
  type DnsChallengeType,
  type DnsMethod,
  type HttpMethod,
  methodFor,
} from '#libs/model/challenge-method';
import type { Credential } from '#libs/model/credential';
import { toAsciiName } from '#libs/model/domain-name';
import type { Target } from '#libs/model/target';
import { noting, refusal } from './field-problems.ts';

const method = {
  type: z.string().describe(challengeTypes.join(', ')),
  via: z
    .enum(['responder', 'target', 'webroot'])
    .optional()
    .describe(
      'With http-01, who answers: the API’s challenge port (`responder`, by default), the IIS host of a target, or a web server from a folder (`webroot`)',
    ),
  target: z.string().optional().describe('With `via: target`; the source’s, or the one deployed to, by default'),
  site: z
    .number()
    .int()
    .positive()
    .optional()
    .describe('With `via: target`: the site whose folder may take the answer; the one that has the name by default'),
  folder: z.string().max(1_000).optional().describe('With `via: webroot`: the root folder of the web server'),
  credential: z.string().optional().describe('The credential of the DNS provider; for challenges in DNS'),
  manual: z.literal(true).optional().describe('Instead of a credential: a person makes the TXT record'),
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

type MethodBody = Omit<z.output<typeof challengeBody>, 'type'> & { type: string };

/** What the rest of a request says for its challenges. */
export interface ChallengeContext {
  findCredential(id: string): Promise<Credential | null>;
  findTarget(id: string): Promise<Target | null>;
  /** The place whose host answers where a method says `via: target` and not which; null when there is none. */
  place: { target: string; site: number | null } | null;
}

/** The fields of a method besides its type, by what it is. */
const fieldsOf = {
  responder: ['via'],
  target: ['via', 'target', 'site'],
  webroot: ['via', 'folder'],
  dns: ['credential', 'manual'],
} as const;

/** What each of them is for, for a person who gave it beside something else. */
const placeOf: Record<string, string> = {
  via: 'http-01',
  ...{ target: '`via: target`', site: '`via: target`', folder: '`via: webroot`' },
  ...{ credential: 'challenges in DNS', manual: 'challenges in DNS' },
};

async function methodOf(asked: MethodBody, path: string, context: ChallengeContext): Promise<ChallengeMethod> {
  const { type, via = 'responder', ...given } = asked;
  const wrong = (field: string, code: Problem['code'], detail: string) =>
    refusal([{ path: `${path}.${field}`, code, detail }]);
  const known = challengeTypes.find((one) => one === type);
  if (known === undefined)
    throw wrong('type', 'challenge_unsupported', `${type} is not offered; use one of ${challengeTypes.join(', ')}`);
  const kind = known === 'http-01' ? via : 'dns';
  const fields: readonly string[] = fieldsOf[kind];
  const { match: _match, type: _type, ...rest } = asked as MethodBody & { match?: string };
  const stray = Object.entries(rest).find(([field, value]) => value !== undefined && !fields.includes(field));
  if (stray) {
    const what = known === 'http-01' ? `http-01 via ${via}` : known;
    throw wrong(stray[0], 'request_invalid', `is for ${placeOf[stray[0]]}, not for ${what}`);
  }
  if (known === 'http-01') return httpMethodOf(via, given, wrong, context);
  return dnsMethodOf(known, given, wrong, context);
}

type Wrong = (field: string, code: Problem['code'], detail: string) => CertlineError;

async function httpMethodOf(
  via: 'responder' | 'target' | 'webroot',
  { target, site, folder }: Omit<MethodBody, 'type' | 'via'>,
  wrong: Wrong,
  { findTarget, place }: ChallengeContext,
): Promise<HttpMethod> {
  const type = 'http-01';
  if (via === 'responder') return { type, via };
  if (via === 'webroot') {
    if (folder === undefined) throw wrong('folder', 'request_invalid', 'name the root folder of the web server');
    if (!posix.isAbsolute(folder) && !/^([A-Za-z]:[\\/]|\\\\[^\\])/.test(folder))
      throw wrong('folder', 'request_invalid', 'give an absolute path, of the validation workers');
    return { type, via, folder };
  }
  const id = target ?? place?.target;
  if (id === undefined)
    throw wrong('target', 'request_invalid', 'name the target whose host answers: there is no other to take');
  const found = await findTarget(id);
  if (found === null) throw wrong('target', 'target_unknown', `there is no target ${id}`);
  if (found.kind !== 'iis' || found.transport.kind === 'lab') {
    const what = found.kind === 'iis' ? 'a simulated host' : `of kind ${found.kind}`;
    throw wrong('target', 'request_invalid', `${found.name} is ${what}: it answers no challenges, name an IIS host`);
  }
  return { type, via, target: id, site: site ?? (id === place?.target ? place.site : null) };
}

async function dnsMethodOf(
  type: DnsChallengeType,
  { credential, manual }: Omit<MethodBody, 'type' | 'via'>,
  wrong: Wrong,
  { findCredential }: ChallengeContext,
): Promise<DnsMethod> {
  if (manual && credential !== undefined)
    throw wrong('manual', 'request_invalid', 'a credential writes the record: leave one of both out');
  if (manual) return { type, manual };
  if (credential === undefined)
    throw wrong(
      'credential',
      'request_invalid',
      'name the credential of the DNS provider that writes the record, or give `manual: true`',
    );
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
export async function readChallenges(body: ChallengesBody, context: ChallengeContext): Promise<Challenges> {
  const { challenge, challenges = [] } = body;
  const problems: Problem[] = [];
  const rules: ChallengeRule[] = [];
  for (const [at, { match, ...asked }] of challenges.entries()) {
    const path = `challenges[${at}]`;
    const pattern = await noting(problems, () => patternOf(match, `${path}.match`));
    const read = await noting(problems, () => methodOf(asked, path, context));
    if (pattern !== null && read !== null) rules.push({ match: pattern, ...read });
  }
  const others = challenge
    ? await noting(problems, () => methodOf(challenge, 'challenge', context))
    : challenges.length > 0
      ? null
      : ({ type: 'http-01', via: 'responder' } as const);
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
