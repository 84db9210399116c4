import { CertlineError } from '../errors.ts';
import { nameCovers } from '../model/domain-name.ts';
import { bindingKey } from '../model/drift.ts';
import type { TargetDeploy } from '../model/order.ts';
import { parseBindingInformation } from './binding-information.ts';
import type { PlannedCertificate, SkippedBinding } from './binding-plan.ts';
import type { HostState, StoredCertificate } from './iis-host.ts';
import { isProtocol } from './plan-scope.ts';

/** Reasons that are told; the others are counted. */
const told = 5;

const hostOf = (bindingInformation: string): string => parseBindingInformation(bindingInformation)?.host ?? '';
/** Without the colon before a host name that is not there. */
const spell = (bindingInformation: string): string => bindingInformation.replace(/:$/, '');

/** A binding that is left alone, in words. */
interface Left extends SkippedBinding {
  host: string;
  /** False for one that would only be added. */
  exists: boolean;
  words: string;
}

function leftOf({ sites }: HostState, { mode }: TargetDeploy, one: SkippedBinding): Left {
  const { siteId, protocol, bindingInformation, reason } = one;
  const bindings = sites.find(({ id }) => id === siteId)?.bindings ?? [];
  const exists =
    protocol === 'ftp' ||
    bindings.some((other) => isProtocol(other, 'https') && other.bindingInformation === bindingInformation);
  const where = mode === 'site' ? '' : ` of site ${siteId}`;
  const what = protocol === 'ftp' ? `ftp of site ${siteId}` : `${spell(bindingInformation)}${where}`;
  const words = `${what}${exists ? '' : ' (would be new)'}: ${reason}`;
  return { ...one, host: hostOf(bindingInformation), exists, words };
}

/** The https bindings of other sites that answer for a name; those without a host name if they carry the certificate. */
function elsewhere({ sites }: HostState, { site }: TargetDeploy, name: string, thumbprint: string) {
  return sites
    .filter(({ id }) => id !== site)
    .flatMap(({ id, bindings }) => bindings.map((binding) => ({ id, binding })))
    .filter(({ binding }) => {
      if (!isProtocol(binding, 'https')) return false;
      const host = hostOf(binding.bindingInformation);
      return host === '' ? binding.thumbprint?.toUpperCase() === thumbprint.toUpperCase() : nameCovers(name, host);
    });
}

/** What may be done: options are named where others than those that were given would help. */
function adviceOf(
  deploy: TargetDeploy,
  left: readonly Left[],
  close: readonly Left[],
  bare: readonly string[],
  busy: readonly number[],
) {
  const { mode, site, updateOnly, addMissing, replace, blankHost } = deploy;
  const advice: string[] = [];
  if (updateOnly && close.some(({ exists }) => !exists)) advice.push('leave out `updateOnly`');
  if (replace === 'ours' && left.some(({ reason }) => reason.includes('not ours'))) advice.push('leave out `replace`');
  if (mode === 'site' && bare.length > 0) {
    if (busy.length > 0) advice.push(`deploy to site ${busy.join(' and ')}`);
    if (!addMissing && !updateOnly)
      advice.push(`add an http binding with the name to site ${site}, or use \`addMissing\``);
    if (updateOnly && advice.length === 0) advice.push('give `addMissing` instead of `updateOnly`');
    if (addMissing && busy.length > 0) advice.push('take the name away there first');
  }
  if (mode !== 'site' && bare.length > 0)
    advice.push('add a binding with the name to a started site, or name a site with `addMissing`');
  if (!blankHost && mode !== 'auto' && left.some(({ reason }) => reason.endsWith('only with blankHost')))
    advice.push('use `blankHost`');
  return advice;
}

/** `nothing_to_bind`: for each name why no binding gets the certificate, and which options would change that. */
export function nothingToBind(
  state: HostState,
  { names, thumbprint }: PlannedCertificate,
  deploy: TargetDeploy,
  skipped: readonly SkippedBinding[],
): CertlineError {
  const { mode, site, addMissing, only } = deploy;
  const isOfThis = (one: StoredCertificate): boolean => one.thumbprint?.toUpperCase() === thumbprint.toUpperCase();
  const left = skipped
    .filter((one) => only === undefined || only.includes(bindingKey(one)))
    .map((one) => leftOf(state, deploy, one));
  const bare = names.filter((name) => !left.some(({ host }) => nameCovers(name, host)));
  const busy = new Set<number>();
  const reasons = bare.map((name) => {
    if (mode !== 'site') return `${name}: no started site has a binding with this host name`;
    const others = elsewhere(state, deploy, name, thumbprint);
    for (const { id } of others) busy.add(id);
    const held = others.map(
      ({ id, binding }) =>
        `site ${id} has an https binding for it already (${spell(binding.bindingInformation)}${isOfThis(binding) ? ', with this certificate' : ''})`,
    );
    return `${name}: ${[...(addMissing && held.length > 0 ? [] : [`site ${site} has no binding with this host name`]), ...held].join(', ')}`;
  });
  // What concerns the names comes first.
  const [close, others] = [
    left.filter(({ host }) => names.some((name) => nameCovers(name, host))),
    left.filter(({ host }) => !names.some((name) => nameCovers(name, host))),
  ];
  const all = [...close.map(({ words }) => words), ...(only ? [] : reasons), ...others.map(({ words }) => words)];
  const more = all.length > told ? `; and ${all.length - told} more` : '';
  const why = all.length > 0 ? ` (${all.slice(0, told).join('; ')}${more})` : '';
  const advice = only ? [] : adviceOf(deploy, left, close, bare, [...busy]);
  const next = advice.length > 0 ? `: ${advice.join(', or ')}` : '';
  return new CertlineError('nothing_to_bind', `no binding fits ${names.join(', ')}${why}${next}`, {
    evidence: { skipped: left.map(({ words }) => words), ...(only ? {} : { names: reasons }) },
  });
}
