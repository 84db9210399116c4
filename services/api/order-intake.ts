import { z } from 'zod';
import type { Clock } from '#libs/clock';
import { CertlineError, type Problem } from '#libs/errors';
import { parseBindingInformation } from '#libs/iis/binding-information';
import { planDeployment } from '#libs/iis/deployment-plan';
import type { HostState, IisHost } from '#libs/iis/iis-host';
import type { Account } from '#libs/model/account';
import { keyTypes } from '#libs/model/certificate';
import { parseNames } from '#libs/model/domain-name';
import { newId } from '#libs/model/ids';
import { challengeTypes, type Deploy, type OrderRequest, type PendingOrder } from '#libs/model/order';
import type { Target } from '#libs/model/target';
import { newOrder } from '#libs/model/transitions';

const deployBody = z.strictObject({
  mode: z
    .enum(['site', 'auto', 'all', 'store', 'none'])
    .default('site')
    .describe(
      '`site`: the bindings of one site; `auto`: every started site with a matching host name; `all`; `store`: import, bind nothing; `none`',
    ),
  target: z.string().optional().describe('A target; the source’s by default'),
  site: z.number().int().positive().optional().describe('Id of the IIS site; the source’s by default'),
  updateOnly: z.boolean().exactOptional().describe('Add no https bindings'),
  addMissing: z.boolean().exactOptional().describe('Also bind names that have no http binding'),
  blankHost: z.boolean().exactOptional().describe('Also bindings without a host name'),
  port: z.number().int().min(1).max(65_535).exactOptional().describe('Port of new bindings, 443 by default'),
  ip: z
    .union([z.literal('*'), z.ipv4(), z.ipv6()])
    .exactOptional()
    .describe('Address of new bindings, `*` by default'),
  store: z.enum(['My', 'WebHosting']).exactOptional().describe('Certificate store, `My` by default'),
});

export const orderBody = z.strictObject({
  names: z.array(z.string().max(300)).min(1).max(1_000).optional().describe('Host names; the first is the primary one'),
  source: z
    .strictObject({ target: z.string(), site: z.number().int().positive() })
    .optional()
    .describe('Read the names from the bindings of this IIS site, and deploy to it unless `deploy` says otherwise'),
  account: z.string(),
  challenge: z.strictObject({ type: z.string().describe(challengeTypes.join(', ')) }).default({ type: 'http-01' }),
  key: z.strictObject({ type: z.enum(keyTypes).default('rsa-2048') }).default({ type: 'rsa-2048' }),
  profile: z.string().max(100).optional().describe('ACME profile of the CA'),
  preferredChain: z.string().max(300).optional().describe('Common name of the issuer that the chain should end with'),
  deploy: deployBody.optional(),
});
export type OrderBody = z.output<typeof orderBody>;

export interface IntakeDeps {
  findAccount(id: string): Promise<Account | null>;
  findTarget(id: string): Promise<Target | null>;
  openHost(target: Target): IisHost;
  clock: Clock;
}

/** Stands for a certificate that is not there yet. */
const noThumbprint = '0'.repeat(40);

function invalid(
  path: string,
  code: 'request_invalid' | 'account_unknown' | 'target_unknown' | 'challenge_unsupported' | 'names_missing',
  detail: string,
): CertlineError {
  return new CertlineError(code, detail, { problems: [{ path, code, detail }] });
}

/** The host names of a site's http and https bindings, each once; blank hosts are no names. */
export function hostNamesOf(state: HostState, siteId: number): string[] {
  const site = state.sites.find(({ id }) => id === siteId);
  if (!site) throw new CertlineError('site_not_found', `the target has no site ${siteId}`);
  const web = site.bindings.filter(({ protocol }) => protocol === 'http' || protocol === 'https');
  const hosts = web.map(
    ({ bindingInformation }) => parseBindingInformation(bindingInformation)?.host.toLowerCase() ?? '',
  );
  return [...new Set(hosts)].filter((host) => host !== '');
}

/** The value of a check; a field that is wrong is noted, so that the others are looked at too. */
async function noting<T>(problems: Problem[], check: () => T | Promise<T>): Promise<T | null> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof CertlineError) || !error.problems) throw error;
    problems.push(...error.problems);
    return null;
  }
}

/** Checks a request for an order and makes the order of it. Stores nothing and calls no CA; throws with every field that is wrong. */
export function createIntake({
  findAccount,
  findTarget,
  openHost,
  clock,
}: IntakeDeps): (body: OrderBody, signal: AbortSignal) => Promise<PendingOrder> {
  async function targetOf(id: string, path: string): Promise<Target> {
    const target = await findTarget(id);
    if (target === null) throw invalid(path, 'target_unknown', `there is no target ${id}`);
    return target;
  }

  function policyOf(account: Account) {
    // http-01, the only challenge so far, proves no wildcard.
    return { allowInternalNames: account.allowInternalNames, provesWildcards: () => false };
  }

  /** Names of a site; those that no public CA validates are left out and told, since nobody typed them. */
  async function namesOfSite(
    { target, site }: NonNullable<OrderBody['source']>,
    account: Account,
    signal: AbortSignal,
  ) {
    const hosts = hostNamesOf(await openHost(await targetOf(target, 'source.target')).read(signal), site);
    const skipped: { host: string; code: string }[] = [];
    const usable: string[] = [];
    for (const host of hosts) {
      try {
        parseNames([host], policyOf(account));
        usable.push(host);
      } catch (error) {
        if (!(error instanceof CertlineError)) throw error;
        const { code, message: detail } = error;
        // A wildcard could be had with another challenge: to leave it out is not for us to decide.
        if (code === 'wildcard_needs_dns_01')
          throw new CertlineError(code, detail, { problems: [{ path: 'source', code, detail }] });
        skipped.push({ host, code });
      }
    }
    if (usable.length === 0) {
      const left = skipped.map(({ host, code }) => `${host} (${code})`).join(', ');
      throw new CertlineError(
        'site_has_no_names',
        `site ${site} has no host name a public CA validates${left ? `: ${left}` : ''}`,
      );
    }
    return { names: usable, source: { target, site, skipped } };
  }

  async function deployOf(body: OrderBody): Promise<Deploy> {
    const { deploy, source } = body;
    if (!deploy) return source ? { mode: 'site', target: source.target, site: source.site } : { mode: 'none' };
    const { mode, target = source?.target, site, ...options } = deploy;
    if (mode === 'none') return { mode };
    if (target === undefined) throw invalid('deploy.target', 'request_invalid', 'name the target to deploy to');
    await targetOf(target, 'deploy.target');
    const chosen = site ?? (target === source?.target ? source.site : undefined);
    if (mode !== 'site') return { mode, target, ...options };
    if (chosen === undefined)
      throw invalid('deploy.site', 'request_invalid', 'name the site to deploy to, or another mode');
    return { mode, target, site: chosen, ...options };
  }

  function challengeOf({ challenge: { type } }: OrderBody): (typeof challengeTypes)[number] {
    const challenge = challengeTypes.find((known) => known === type);
    if (challenge) return challenge;
    const detail = `${type} is not offered; use ${challengeTypes.join(' or ')}`;
    throw invalid('challenge.type', 'challenge_unsupported', detail);
  }

  async function accountOf({ account: id }: OrderBody): Promise<Account> {
    const account = await findAccount(id);
    if (account === null) throw invalid('account', 'account_unknown', `there is no account ${id}`);
    return account;
  }

  function typedNames({ names, source }: OrderBody, account: Account | null): string[] {
    if (names && source) throw invalid('source', 'request_invalid', 'give names or a source, not both');
    if (names) return account ? parseNames(names, policyOf(account)) : [];
    if (!source) throw invalid('names', 'names_missing', 'give names, or a source to read them from');
    return [];
  }

  /**
   * Whether the host would take the certificate anywhere: an order that must fail after it cost a certificate is refused before.
   * A host that does not answer now may be back when the certificate is there.
   */
  async function checkDeployable(names: readonly string[], deploy: Deploy, signal: AbortSignal): Promise<void> {
    if (deploy.mode === 'none') return;
    try {
      const state = await openHost(await targetOf(deploy.target, 'deploy.target')).read(signal);
      planDeployment(state, { names, thumbprint: noThumbprint }, deploy);
    } catch (error) {
      if (!(error instanceof CertlineError)) throw error;
      const { code, message: detail } = error;
      if (code !== 'site_not_found' && code !== 'nothing_to_bind') return;
      throw new CertlineError(code, detail, {
        problems: [{ path: code === 'site_not_found' ? 'deploy.site' : 'deploy', code, detail }],
      });
    }
  }

  return async (body, signal) => {
    const problems: Problem[] = [];
    const challenge = await noting(problems, () => challengeOf(body));
    const account = await noting(problems, () => accountOf(body));
    const typed = await noting(problems, () => typedNames(body, account));
    const deploy = await noting(problems, () => deployOf(body));
    const [first] = problems;
    if (first || !challenge || !account || !typed || !deploy)
      throw new CertlineError(first?.code ?? 'unexpected', first?.detail ?? 'nothing is wrong', { problems });

    // Last: it asks the target's host.
    const read = body.source ? await namesOfSite(body.source, account, signal) : null;
    const names = read ? parseNames(read.names, policyOf(account), 'source') : typed;
    await checkDeployable(names, deploy, signal);
    const request: OrderRequest = {
      names,
      account: account.id,
      challenge: { type: challenge },
      keyType: body.key.type,
      profile: body.profile ?? null,
      preferredChain: body.preferredChain ?? null,
      source: read?.source ?? null,
      deploy,
    };
    const now = clock.now();
    return newOrder(newId('order', now), request, now);
  };
}
