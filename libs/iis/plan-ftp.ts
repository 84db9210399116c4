import { nameCovers } from '../model/domain-name.ts';
import { parseBindingInformation } from './binding-information.ts';
import type { PlannedChange } from './binding-plan.ts';
import type { Site, StoredCertificate } from './iis-host.ts';
import {
  carriesOld,
  covers,
  foreignReason,
  isCurrent,
  isForeign,
  isProtocol,
  type PlanDraft,
  type PlanScope,
  sortedBindings,
} from './plan-scope.ts';

/** A site with ftp bindings: they have one certificate together. */
interface FtpSite {
  site: Site;
  certificate: StoredCertificate;
  /** Of its ftp bindings, each once; empty for one without a host name. */
  hosts: string[];
}

function readFtpSites(scope: PlanScope): FtpSite[] {
  return scope.sites.flatMap((site) => {
    if (site.ftp === null) return [];
    const ftp = sortedBindings(site).filter((one) => isProtocol(one, 'ftp'));
    const hosts = ftp.map(({ bindingInformation }) => parseBindingInformation(bindingInformation)?.host ?? '');
    return [{ site, certificate: site.ftp, hosts: [...new Set(hosts)] }];
  });
}

/** Why the site's ftp is to get the certificate, why it is left although one might expect it, or nothing. */
function claimOf(
  scope: PlanScope,
  { site, certificate, hosts }: FtpSite,
): { claim: string } | { leave: string } | null {
  const chosen = scope.options.mode === 'site' && scope.targets.has(site.id);
  const fits = hosts.some((host) => covers(scope.names, host));
  const blank = hosts.every((host) => host === '');
  if (carriesOld(scope, certificate)) {
    if (fits || blank) return { claim: 'its ftp carries the certificate that is replaced' };
    return { leave: 'its ftp carries the certificate that is replaced, but the new one covers none of its hosts' };
  }
  if (!chosen) return null;
  if (fits) return { claim: 'the certificate covers a host of its ftp bindings' };
  if (!blank) return { leave: 'the certificate covers no host of its ftp bindings' };
  if (certificate.thumbprint !== null && scope.ours.has(certificate.thumbprint.toUpperCase())) {
    return { claim: 'its ftp carries a certificate of ours' };
  }
  if (scope.options.blankHost) return { claim: 'its ftp bindings have no host name, and such bindings are asked for' };
  return { leave: 'its ftp bindings have no host name: only with blankHost' };
}

/**
 * Plans the certificates of ftp sites, which are the site's own and not in http.sys: the chosen site's where a host of its ftp bindings is
 * covered or it carries one of ours, and any site's that carries the certificate that is replaced.
 */
export function planFtp(scope: PlanScope, draft: PlanDraft): void {
  for (const one of readFtpSites(scope)) {
    const { site, certificate, hosts } = one;
    const skip = (reason: string) =>
      draft.skipped.push({ siteId: site.id, protocol: 'ftp', bindingInformation: '', reason });
    const decision = claimOf(scope, one);
    if (decision === null) continue;
    if ('leave' in decision) {
      skip(decision.leave);
      if (carriesOld(scope, certificate)) {
        draft.warnings.push(
          `ftp of site ${site.id} stays on the old certificate ${scope.oldThumbprint}, which must not be deleted: the new one covers none of its hosts`,
        );
      }
      continue;
    }
    if (isCurrent(scope, certificate)) {
      skip('already has this certificate');
      continue;
    }
    if (isForeign(scope, certificate)) {
      skip(foreignReason(certificate));
      continue;
    }
    const others = hosts.filter((host) => host !== '' && !covers(scope.names, host));
    if (others.length > 0) {
      draft.warnings.push(
        `site ${site.id} has one certificate for all its ftp bindings: ${others.join(', ')} gets the new one too, which does not cover it`,
      );
    }
    draft.changes.push({
      op: 'update',
      siteId: site.id,
      protocol: 'ftp',
      bindingInformation: '',
      sslFlags: 0,
      thumbprint: scope.thumbprint,
      store: scope.options.store,
      expect: { thumbprint: certificate.thumbprint, sslFlags: 0 },
      reason: decision.claim,
    });
  }
}

/** Whether a host of an ftp binding that the name covers has the certificate, once the changes are made. */
export function ftpServes(scope: PlanScope, changes: readonly PlannedChange[], name: string): boolean {
  const changed = new Set(changes.filter(({ protocol }) => protocol === 'ftp').map(({ siteId }) => siteId));
  const serving = readFtpSites(scope).filter((one) => changed.has(one.site.id) || isCurrent(scope, one.certificate));
  return serving.some(({ hosts }) => hosts.some((host) => host !== '' && nameCovers(name, host)));
}
