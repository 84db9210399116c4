import { z } from 'zod';
import { CertlineError, type ErrorCode, type Problem } from '#libs/errors';
import type { Account } from '#libs/model/account';
import { keyTypes } from '#libs/model/certificate';
import type { Credential } from '#libs/model/credential';
import { type NamePolicy, nameCovers, parseNames } from '#libs/model/domain-name';
import { newId } from '#libs/model/ids';
import type { OrderRequest, PendingOrder } from '#libs/model/order';
import { newOrder } from '#libs/model/transitions';
import { deployBody } from './deploy-body.ts';
import { type DeploymentView, noThumbprint } from './deployment-view.ts';
import { invalid, noting, refusal } from './field-problems.ts';
import { createHostPlans, type HostPlans, type HostPlansDeps, hostErrors, planErrors } from './host-plans.ts';
import { type Challenges, challengeBody, challengesBody, readChallenges, requireMethods } from './read-challenges.ts';
import { deployOf } from './read-deploy.ts';
import { type ReplacesDeps, readReplaces, requireSharedName } from './read-replaces.ts';
import { namePolicyOf, siteNamesOf } from './site-names.ts';

export const orderBody = z.strictObject({
  names: z.array(z.string().max(300)).min(1).max(1_000).optional().describe('Host names; the first is the primary one'),
  source: z
    .strictObject({ target: z.string(), site: z.number().int().positive() })
    .optional()
    .describe('Read the names from the bindings of this IIS site, and deploy to it unless `deploy` says otherwise'),
  account: z.string(),
  challenge: challengeBody
    .optional()
    .describe('For the names that none of `challenges` matches; http-01 when there is neither'),
  challenges: challengesBody.optional().describe('By pattern of name; the first that matches counts'),
  key: z.strictObject({ type: z.enum(keyTypes).default('rsa-2048') }).default({ type: 'rsa-2048' }),
  profile: z.string().max(100).optional().describe('ACME profile of the CA'),
  preferredChain: z.string().max(300).optional().describe('Common name of the issuer that the chain should end with'),
  replaces: z
    .string()
    .max(100)
    .optional()
    .describe(
      'The certificate that this one is to replace: of the same CA, with a name in common. A CA with ARI is told so, and may exempt the order from its limits',
    ),
  deploy: deployBody.optional(),
});
export type OrderBody = z.output<typeof orderBody>;

/** What a request for an order is refused with. */
export const intakeErrors: ErrorCode[] = [
  ...(['names_missing', 'name_invalid', 'name_is_ip_address', 'name_not_public', 'name_is_public_suffix'] as const),
  ...(['wildcard_needs_dns_01', 'wildcard_covers_name', 'too_many_names', 'site_has_no_names'] as const),
  ...(['account_unknown', 'credential_unknown', 'challenge_unsupported', 'challenge_unmatched'] as const),
  'replaces_unfit',
  ...planErrors,
  ...hostErrors,
];

export interface IntakeDeps extends HostPlansDeps, ReplacesDeps {
  findCredential(id: string): Promise<Credential | null>;
}

export interface Preview {
  request: OrderRequest;
  deployments(): Promise<DeploymentView[]>;
}

/** What becomes of a request for an order. Both check all of it, store nothing and call no CA; both throw with every field that is wrong. */
export interface Intake {
  order(body: OrderBody, signal: AbortSignal): Promise<PendingOrder>;
  /** As `order`, with what would be deployed when that is asked for, which throws when the only host does not answer. */
  preview(body: OrderBody, signal: AbortSignal): Promise<Preview>;
}

/** Names of a site; those that no public CA validates are left out and told, since nobody typed them. */
async function namesOfSite(
  plans: HostPlans,
  { target, site }: NonNullable<OrderBody['source']>,
  policy: NamePolicy,
  signal: AbortSignal,
) {
  const place = await plans.target(target, 'source.target');
  if (place.kind !== 'iis')
    throw invalid(
      'source.target',
      'request_invalid',
      `${target} is of kind ${place.kind}: it has no sites, give names`,
    );
  const state = await plans.state(place, signal);
  const names = siteNamesOf(state, site, policy);
  // A wildcard could be had with another challenge: to leave it out is not for us to decide.
  const wildcard = names.find(({ problem }) => problem?.code === 'wildcard_needs_dns_01')?.problem;
  if (wildcard) throw invalid('source', wildcard.code, wildcard.detail);
  const good = names.filter(({ problem }) => problem === null).map(({ host }) => host);
  // A site may well have a binding for a name beside one for the wildcard above it: a certificate has the wildcard alone.
  const isCovered = (host: string): boolean => good.some((other) => other !== host && nameCovers(other, host));
  const usable = good.filter((host) => !isCovered(host));
  const skipped = names.flatMap(({ host, problem }) => {
    const code = problem?.code ?? (isCovered(host) ? 'wildcard_covers_name' : null);
    return code === null ? [] : [{ host, code }];
  });
  if (usable.length === 0) {
    const left = skipped.map(({ host, code }) => `${host} (${code})`).join(', ');
    throw new CertlineError(
      'site_has_no_names',
      `site ${site} has no host name a public CA validates${left ? `: ${left}` : ''}`,
    );
  }
  return { names: usable, source: { target, site, skipped } };
}

async function typedNames(
  { names, source }: OrderBody,
  account: Account | null,
  challenges: Challenges | null,
): Promise<string[]> {
  if (names && source) throw invalid('source', 'request_invalid', 'give names or a source, not both');
  if (names) {
    const problems: Problem[] = [];
    // What is wrong with the challenges is told already: no name is to be blamed for it.
    const policy = namePolicyOf(account, challenges ?? { challenge: null, challenges: [] });
    const typed = account ? await noting(problems, () => parseNames(names, policy)) : [];
    if (challenges) await noting(problems, () => requireMethods(names, challenges));
    if (problems.length > 0 || typed === null) throw refusal(problems);
    return typed;
  }
  if (!source) throw invalid('names', 'names_missing', 'give names, or a source to read them from');
  return [];
}

/** The one place that a request names: its source, or the target it deploys to. */
function placeOf({ source, deploy }: OrderBody): { target: string; site: number | null } | null {
  if (source) return source;
  return deploy?.target === undefined ? null : { target: deploy.target, site: deploy.site ?? null };
}

export function createIntake({ findAccount, findCredential, findCertificate, ...hosts }: IntakeDeps): Intake {
  async function accountOf({ account: id }: OrderBody): Promise<Account> {
    const account = await findAccount(id);
    if (account === null) throw invalid('account', 'account_unknown', `there is no account ${id}`);
    return account;
  }

  async function requestOf(body: OrderBody, plans: HostPlans, signal: AbortSignal): Promise<OrderRequest> {
    const problems: Problem[] = [];
    const challenges = await noting(problems, () =>
      readChallenges(body, { findCredential, findTarget: hosts.findTarget, place: placeOf(body) }),
    );
    const account = await noting(problems, () => accountOf(body));
    const typed = await noting(problems, () => typedNames(body, account, challenges));
    const replaced = await noting(problems, async () =>
      account && body.replaces !== undefined
        ? readReplaces(body.replaces, account, { findAccount, findCertificate })
        : null,
    );
    const deploy = await noting(problems, () => deployOf(body.deploy, body.source, plans.target));
    if (problems.length > 0 || !challenges || !account || !typed || !deploy) throw refusal(problems);

    // Last: it asks the target's host.
    const read = body.source ? await namesOfSite(plans, body.source, namePolicyOf(account, challenges), signal) : null;
    if (read) requireMethods(read.names, challenges, () => 'challenges');
    const names = read ? parseNames(read.names, namePolicyOf(account, challenges), 'source') : typed;
    if (replaced) requireSharedName(replaced, names);
    return {
      names,
      account: account.id,
      ...challenges,
      keyType: body.key.type,
      profile: body.profile ?? null,
      preferredChain: body.preferredChain ?? null,
      ...(replaced ? { replaces: replaced.id } : {}),
      source: read?.source ?? null,
      deploy,
    };
  }

  return {
    async order(body, signal) {
      const plans = createHostPlans(hosts);
      const request = await requestOf(body, plans, signal);
      await plans.check(request.deploy, { names: request.names, thumbprint: noThumbprint }, signal);
      const now = hosts.clock.now();
      return newOrder(newId('order', now), request, now);
    },
    async preview(body, signal) {
      const plans = createHostPlans(hosts);
      const request = await requestOf(body, plans, signal);
      const certificate = { names: request.names, thumbprint: noThumbprint };
      return { request, deployments: () => plans.preview(request.deploy, certificate, signal) };
    },
  };
}
