import { createHash } from 'node:crypto';
import { CertlineError } from '../errors.ts';
import type { BindingChange, HostState } from './iis-host.ts';
import { planAdditions } from './plan-additions.ts';
import { ftpServes, planFtp } from './plan-ftp.ts';
import { type PlanDraft, type PlanScope, plannedState, readHttpsBindings, unboundNames } from './plan-scope.ts';
import { planUpdates } from './plan-updates.ts';
import { hidingWarnings, hostWarnings, mixedPortWarnings, sharedRecords, siteWarnings } from './plan-warnings.ts';

/** Which certificate the bindings are to get. */
export interface PlannedCertificate {
  names: readonly string[];
  /** SHA-1 of the DER in hexadecimal. */
  thumbprint: string;
}

export interface BindingPlanOptions {
  /** `site`: the chosen site whatever its state; `auto` and `all`: every started site; `store`: no bindings. */
  mode: 'site' | 'auto' | 'all' | 'store';
  /** Id of the chosen site; needed with `site`. */
  site?: number;
  /** The certificate that this one replaces: its bindings in every site follow, if their host is covered. */
  oldThumbprint?: string;
  /** Certificate store that the certificate lies in. */
  store: string;
  /** Also bindings without a host name; `auto` never takes them. */
  blankHost?: boolean;
  /** Add no binding. */
  updateOnly?: boolean;
  /** With `site`: also add a binding for a name that has not even an http binding. */
  addMissing?: boolean;
  /** Port of added bindings, 443 unless told. */
  port?: number;
  /** IP of added bindings. Unless told: `*`, and the IP of the http binding where there is no SNI. */
  ip?: string;
  /** `false`: added bindings have no SNI, and share the certificate of their address and port. */
  sni?: boolean;
  /** `ours`: only bindings without a certificate, or with one of `ours`, are changed; else whatever they carry. */
  replace?: 'any' | 'ours';
  /** Thumbprints of the certificates that we put on the host; the one that is replaced and the new one always count. */
  ours?: ReadonlySet<string>;
}

export interface PlannedChange extends BindingChange {
  /** Why, for a person. */
  reason: string;
}

export interface SkippedBinding {
  siteId: number;
  protocol: 'https' | 'ftp';
  /** Of a binding that is there, or of one that might have been added; empty with `ftp`. */
  bindingInformation: string;
  /** Why, for a person. */
  reason: string;
}

/** A record of http.sys that several bindings take their certificate from. */
export interface SharedRecord {
  /** `ip:port`, or `host:port` with SNI. */
  record: string;
  siteIds: number[];
}

/** The exact changes a deployment would make; the same for the same host, certificate and options. */
export interface BindingPlan {
  changes: PlannedChange[];
  skipped: SkippedBinding[];
  warnings: string[];
  shared: SharedRecord[];
  /** Names of the certificate that no binding with this certificate would answer for. */
  unbound: string[];
  /** SHA-256 of the changes, hexadecimal: the same before the certificate is issued and after. See `hashChanges`. */
  hash: string;
}

function targetSites(host: HostState, options: BindingPlanOptions): Set<number> {
  if (options.mode === 'store') return new Set();
  if (options.mode !== 'site') {
    return new Set(host.sites.filter((site) => site.state === 'Started').map((site) => site.id));
  }
  const chosen = host.sites.find((site) => site.id === options.site);
  if (chosen) return new Set([chosen.id]);
  throw new CertlineError('site_not_found', `the host has no IIS site ${options.site ?? '(no id was given)'}`, {
    evidence: { sites: host.sites.map((site) => site.id) },
  });
}

function scopeOf(host: HostState, certificate: PlannedCertificate, options: BindingPlanOptions): PlanScope {
  const thumbprint = certificate.thumbprint.toUpperCase();
  const old = options.oldThumbprint?.toUpperCase();
  const known = [...(options.ours ?? []), ...(old === undefined ? [] : [old]), thumbprint];
  return {
    iisMajor: host.iisMajor,
    osBuild: host.osBuild,
    sites: host.sites.toSorted((a, b) => a.id - b.id),
    https: readHttpsBindings(host),
    targets: targetSites(host, options),
    names: certificate.names,
    thumbprint,
    oldThumbprint: old === undefined || old === thumbprint ? null : old,
    ours: new Set(known.map((one) => one.toUpperCase())),
    options: { ...options, blankHost: options.mode !== 'auto' && options.blankHost === true },
  };
}

function optionWarnings(asked: BindingPlanOptions): string[] {
  const warnings: string[] = [];
  if (asked.mode === 'auto' && asked.blankHost) {
    warnings.push('mode auto leaves bindings without a host name alone: blankHost is ignored');
  }
  if (asked.addMissing && !asked.updateOnly && (asked.mode === 'auto' || asked.mode === 'all')) {
    warnings.push(`mode ${asked.mode} has no site to add missing names to: addMissing is ignored`);
  }
  return warnings;
}

const byCodeUnits = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
const opOrder = { remove: 0, update: 1, add: 2 } as const;

function compareChanges(a: PlannedChange, b: PlannedChange): number {
  return (
    opOrder[a.op] - opOrder[b.op] || a.siteId - b.siteId || byCodeUnits(a.bindingInformation, b.bindingInformation)
  );
}

function compareSkipped(a: SkippedBinding, b: SkippedBinding): number {
  return a.siteId - b.siteId || byCodeUnits(a.bindingInformation, b.bindingInformation);
}

/** JSON with the keys of every object sorted, so that equal values have equal text. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => byCodeUnits(a, b)))
      : inner,
  );
}

/**
 * SHA-256 of changes in canonical JSON, hexadecimal. What the host must still have is part of it. The reasons are not, since wording is
 * not part of what is done, and neither is the `planned` thumbprint: a preview does not know it before the certificate is issued.
 */
export function hashChanges(changes: readonly BindingChange[], planned: string): string {
  const bare = changes.map((change) => ({
    op: change.op,
    siteId: change.siteId,
    protocol: change.protocol,
    bindingInformation: change.bindingInformation,
    sslFlags: change.sslFlags,
    thumbprint: change.thumbprint?.toUpperCase() === planned.toUpperCase() ? 'the new certificate' : change.thumbprint,
    store: change.store,
    expect: change.expect,
  }));
  return hashOf(bare);
}

/** SHA-256 of a value in canonical JSON, hexadecimal. */
export function hashOf(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex');
}

/**
 * Plans the https bindings that get a certificate: pure, it only looks at what it is given.
 * An existing https binding whose host the certificate covers is updated and keeps its address and flags; an http binding whose host has
 * no https binding in its site gets one. Bindings are left alone where the change would reach one that is not meant. Of ftp sites the
 * chosen one gets it, and those that carry the certificate that is replaced.
 * Throws `CertlineError` `site_not_found` when the chosen site does not exist.
 */
export function planBindings(
  host: HostState,
  certificate: PlannedCertificate,
  options: BindingPlanOptions,
): BindingPlan {
  const scope = scopeOf(host, certificate, options);
  const draft: PlanDraft = { changes: [], skipped: [], warnings: optionWarnings(options) };
  if (options.mode !== 'store') {
    planUpdates(scope, draft);
    planAdditions(scope, draft);
    planFtp(scope, draft);
  }
  const changes = draft.changes.sort(compareChanges);
  const after = plannedState(scope, draft);
  const sharing = sharedRecords(after, scope.thumbprint);
  const warnings = [
    ...hostWarnings(scope),
    ...draft.warnings,
    ...siteWarnings(scope, changes),
    ...sharing.warnings,
    ...hidingWarnings(after),
    ...mixedPortWarnings(scope, changes),
  ];
  const unbound = options.mode === 'store' ? [] : unboundNames(scope, after);
  return {
    changes,
    skipped: draft.skipped.sort(compareSkipped),
    warnings,
    shared: sharing.shared,
    unbound: unbound.filter((name) => !ftpServes(scope, changes, name)),
    hash: hashChanges(changes, scope.thumbprint),
  };
}
