import type { ErrorCode } from '#libs/error-codes';
import { CertlineError } from '#libs/errors';
import { parseBindingInformation } from '#libs/iis/binding-information';
import type { HostState } from '#libs/iis/iis-host';
import type { Account } from '#libs/model/account';
import { methodFor } from '#libs/model/challenge-method';
import { type NamePolicy, parseNames } from '#libs/model/domain-name';
import type { Challenges } from './read-challenges.ts';

/** A host name of a site, and whether a certificate could be ordered for it. */
export interface SiteName {
  host: string;
  /** Why not; null for a usable one. */
  problem: { code: ErrorCode; detail: string } | null;
}

/**
 * What a name must satisfy at the CA of an account; without one at a public CA. Without `challenges` none that proves wildcards is at hand;
 * where none is named for a wildcard, that is another problem than its own.
 */
export function namePolicyOf(
  account: Pick<Account, 'allowInternalNames'> | null,
  challenges: Challenges | null = null,
): NamePolicy {
  return {
    allowInternalNames: account?.allowInternalNames ?? false,
    provesWildcards: (name) => challenges !== null && methodFor(challenges, name)?.type !== 'http-01',
  };
}

/** The host names of a site's http and https bindings, each once; blank hosts are no names. Throws `site_not_found`. */
export function hostNamesOf(state: HostState, siteId: number): string[] {
  const site = state.sites.find(({ id }) => id === siteId);
  if (!site) throw new CertlineError('site_not_found', `the target has no site ${siteId}`);
  const web = site.bindings.filter(({ protocol }) => /^https?$/i.test(protocol));
  const hosts = web.map(
    ({ bindingInformation }) => parseBindingInformation(bindingInformation)?.host.toLowerCase() ?? '',
  );
  return [...new Set(hosts)].filter((host) => host !== '');
}

/** The host names of a site, each judged by itself. */
export function siteNamesOf(state: HostState, siteId: number, policy: NamePolicy): SiteName[] {
  return hostNamesOf(state, siteId).map((host) => {
    try {
      parseNames([host], policy);
      return { host, problem: null };
    } catch (error) {
      if (!(error instanceof CertlineError)) throw error;
      return { host, problem: { code: error.code, detail: error.message } };
    }
  });
}
