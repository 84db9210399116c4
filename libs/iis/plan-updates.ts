import { httpSysRecord, parseBindingInformation, sslFlag, usesSni } from './binding-information.ts';
import {
  carriesOld,
  covers,
  foreignReason,
  type HttpsBinding,
  isCurrent,
  isForeign,
  isProtocol,
  type PlanDraft,
  type PlanScope,
  sortedBindings,
  usesCentralStore,
} from './plan-scope.ts';

/** Why the binding is to get the certificate, or null when it is not. */
function claimOf(scope: PlanScope, one: HttpsBinding): string | null {
  const replaced = carriesOld(scope, one.binding);
  const meant = scope.targets.has(one.site.id);
  if (one.address.host === '') {
    if (replaced) return 'carries the certificate that is replaced';
    return meant && scope.options.blankHost ? 'has no host name, and such bindings are asked for' : null;
  }
  if (!covers(scope.names, one.address.host)) return null;
  if (meant) return 'the certificate covers its host';
  return replaced ? 'carries the certificate that is replaced, and its host is covered' : null;
}

function leave(draft: PlanDraft, { site, binding }: Pick<HttpsBinding, 'site' | 'binding'>, reason: string): void {
  const { bindingInformation } = binding;
  draft.skipped.push({ siteId: site.id, protocol: 'https', bindingInformation, reason });
}

/** Says why a binding that one might expect in the plan is not; nothing for the many that nobody would. */
function explain(scope: PlanScope, draft: PlanDraft, one: HttpsBinding): void {
  const { bindingInformation } = one.binding;
  const { mode } = scope.options;
  if (carriesOld(scope, one.binding)) {
    leave(draft, one, 'carries the certificate that is replaced, but the new one does not cover its host');
    draft.warnings.push(
      `${bindingInformation} of site ${one.site.id} stays on the old certificate ${scope.oldThumbprint}, which must not be deleted: the new one does not cover its host`,
    );
  } else if (mode === 'site' && scope.targets.has(one.site.id)) {
    const blank = one.address.host === '';
    leave(draft, one, blank ? 'has no host name: only with blankHost' : 'the certificate does not cover its host');
  } else if (mode !== 'site' && !scope.targets.has(one.site.id) && covers(scope.names, one.address.host)) {
    leave(draft, one, `its site is not started: mode ${mode} leaves it out`);
  }
}

/** An https binding that http.sys could not have a certificate for. */
function explainUnusual(scope: PlanScope, draft: PlanDraft): void {
  for (const site of scope.sites.filter(({ id }) => scope.targets.has(id))) {
    for (const binding of sortedBindings(site).filter((one) => isProtocol(one, 'https'))) {
      if (parseBindingInformation(binding.bindingInformation)) continue;
      leave(draft, { site, binding }, 'its bindingInformation is not ip:port:host');
    }
  }
}

/**
 * Plans the updates of existing https bindings. Address, spelling and flags stay; whose certificate they carried does not matter.
 * SNI is switched on in one case only: where the binding shares its ip:port record with one that must keep its certificate
 * (win-acme does the same; it compares ports only).
 */
export function planUpdates(scope: PlanScope, draft: PlanDraft): void {
  explainUnusual(scope, draft);
  const claims = new Map<HttpsBinding, string>();
  for (const one of scope.https) {
    const claim = claimOf(scope, one);
    if (claim === null) explain(scope, draft, one);
    else if (usesCentralStore(one.binding)) {
      leave(draft, one, 'takes its certificate from the central certificate store, which is not written');
    } else if (isForeign(scope, one.binding)) leave(draft, one, foreignReason(one.binding));
    else claims.set(one, claim);
  }
  const heldBack = new Set(scope.https.filter((one) => !claims.has(one)).map((one) => one.record));
  for (const [one, claim] of claims) planUpdate(scope, draft, one, claim, heldBack.has(one.record));
}

function planUpdate(scope: PlanScope, draft: PlanDraft, one: HttpsBinding, claim: string, sharesRecord: boolean): void {
  const { bindingInformation, sslFlags, thumbprint } = one.binding;
  if (isCurrent(scope, one.binding)) {
    leave(draft, one, 'already has this certificate');
    return;
  }
  // An SNI record is one host's own: whoever shares it asks for the same, covered name.
  const trapped = sharesRecord && !usesSni(one.address, sslFlags);
  if (trapped && (one.address.host === '' || scope.iisMajor < 8)) {
    const reason = `shares ${one.record} with a binding that is not in the plan`;
    leave(draft, one, reason);
    if (carriesOld(scope, one.binding)) {
      draft.warnings.push(
        `${bindingInformation} of site ${one.site.id} stays on the old certificate ${scope.oldThumbprint}: it ${reason}`,
      );
    }
    return;
  }
  const flags = trapped ? sslFlags | sslFlag.sni : sslFlags;
  const record = httpSysRecord(one.address, flags);
  const foreign = scope.https.find((other) => other.record === record && isForeign(scope, other.binding));
  if (foreign) {
    leave(draft, one, `would change ${record}, which site ${foreign.site.id} uses with a certificate that is not ours`);
    return;
  }
  draft.changes.push({
    op: 'update',
    siteId: one.site.id,
    protocol: 'https',
    bindingInformation,
    sslFlags: flags,
    thumbprint: scope.thumbprint,
    store: scope.options.store,
    expect: { thumbprint, sslFlags },
    reason: trapped ? `${claim}; SNI is switched on because ${one.record} is shared with a binding that stays` : claim,
  });
}
