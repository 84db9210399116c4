import { sslFlag, usesSni } from './binding-information.ts';
import {
  covers,
  type HttpsBinding,
  isCurrent,
  type PlanDraft,
  type PlanScope,
  usesCentralStore,
} from './plan-scope.ts';

function carriesOld(scope: PlanScope, one: HttpsBinding): boolean {
  return scope.oldThumbprint !== null && one.binding.thumbprint?.toUpperCase() === scope.oldThumbprint;
}

/** Why the binding is to get the certificate, or null when it is not. */
function claimOf(scope: PlanScope, one: HttpsBinding): string | null {
  const replaced = carriesOld(scope, one);
  const meant = scope.targets.has(one.site.id);
  if (one.address.host === '') {
    if (replaced) return 'carries the certificate that is replaced';
    return meant && scope.options.blankHost ? 'has no host name, and such bindings are asked for' : null;
  }
  if (!covers(scope.names, one.address.host)) return null;
  if (meant) return 'the certificate covers its host';
  return replaced ? 'carries the certificate that is replaced, and its host is covered' : null;
}

/** Says why a binding that one might expect in the plan is not; nothing for the many that nobody would. */
function explain(scope: PlanScope, draft: PlanDraft, one: HttpsBinding): void {
  const { bindingInformation } = one.binding;
  const leave = (reason: string) => draft.skipped.push({ siteId: one.site.id, bindingInformation, reason });
  if (carriesOld(scope, one)) {
    leave('carries the certificate that is replaced, but the new one does not cover its host');
    draft.warnings.push(
      `${bindingInformation} of site ${one.site.id} stays on the old certificate ${scope.oldThumbprint}, which must not be deleted: the new one does not cover its host`,
    );
  } else if (scope.options.mode === 'site' && scope.targets.has(one.site.id)) {
    leave(
      one.address.host === '' ? 'has no host name: only with blankHost' : 'the certificate does not cover its host',
    );
  }
}

/**
 * Plans the updates of existing https bindings. Address, spelling and flags stay; whose certificate they carried does not matter.
 * SNI is switched on in one case only: where the binding shares its ip:port record with one that must keep its certificate
 * (win-acme does the same; it compares ports only).
 */
export function planUpdates(scope: PlanScope, draft: PlanDraft): void {
  const claims = new Map<HttpsBinding, string>();
  for (const one of scope.https) {
    const claim = claimOf(scope, one);
    if (claim === null) explain(scope, draft, one);
    else if (!usesCentralStore(one.binding)) claims.set(one, claim);
    else {
      const { bindingInformation } = one.binding;
      const reason = 'takes its certificate from the central certificate store, which is not written';
      draft.skipped.push({ siteId: one.site.id, bindingInformation, reason });
    }
  }
  const heldBack = new Set(scope.https.filter((one) => !claims.has(one)).map((one) => one.record));
  for (const [one, claim] of claims) planUpdate(scope, draft, one, claim, heldBack.has(one.record));
}

function planUpdate(scope: PlanScope, draft: PlanDraft, one: HttpsBinding, claim: string, sharesRecord: boolean): void {
  const { bindingInformation, sslFlags, thumbprint } = one.binding;
  if (isCurrent(scope, one.binding)) {
    draft.skipped.push({ siteId: one.site.id, bindingInformation, reason: 'already has this certificate' });
    return;
  }
  // An SNI record is one host's own: whoever shares it asks for the same, covered name.
  const trapped = sharesRecord && !usesSni(one.address, sslFlags);
  if (trapped && (one.address.host === '' || scope.iisMajor < 8)) {
    const reason = `shares ${one.record} with a binding that is not in the plan`;
    draft.skipped.push({ siteId: one.site.id, bindingInformation, reason });
    if (carriesOld(scope, one)) {
      draft.warnings.push(
        `${bindingInformation} of site ${one.site.id} stays on the old certificate ${scope.oldThumbprint}: it ${reason}`,
      );
    }
    return;
  }
  draft.changes.push({
    op: 'update',
    siteId: one.site.id,
    protocol: 'https',
    bindingInformation,
    sslFlags: trapped ? sslFlags | sslFlag.sni : sslFlags,
    thumbprint: scope.thumbprint,
    store: scope.options.store,
    expect: { thumbprint, sslFlags },
    reason: trapped ? `${claim}; SNI is switched on because ${one.record} is shared with a binding that stays` : claim,
  });
}
