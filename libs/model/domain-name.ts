import { domainToASCII } from 'node:url';
import { getDomain, parse } from 'tldts';
import { CertlineError, type Problem } from '../errors.ts';

/** The most names a certificate may carry (Let's Encrypt, profile `classic`). */
export const maxNames = 100;

export interface NamePolicy {
  /** A private CA may be told to allow names that no public CA validates. */
  allowInternalNames: boolean;
  /** Whether the challenge of this name can prove a wildcard (dns-01 and its kin can, http-01 cannot: RFC 8555 §8.3). */
  provesWildcards: (name: string) => boolean;
}

/** What ends a host in a URL, or is decoded or dropped there: `domainToASCII` would take `example.com/path` for `example.com`. */
const notInNames = /[\s/?#%\\:@]/;

/** Lower-case ASCII (punycode) form of a host name, as certificates carry it; `null` where there is none. */
export function toAsciiName(typed: string): string | null {
  const trimmed = typed.trim().replace(/\.$/, '');
  if (notInNames.test(trimmed)) return null;
  const wildcard = trimmed.startsWith('*.');
  const ascii = domainToASCII(wildcard ? trimmed.slice(2) : trimmed);
  if (ascii === '') return null;
  return wildcard ? `*.${ascii}` : ascii;
}

/** Whether a certificate name covers a host: the same name, or a wildcard over exactly one label more (RFC 6125 §6.4.3). */
export function nameCovers(certificateName: string, host: string): boolean {
  const name = toAsciiName(certificateName);
  const wanted = toAsciiName(host);
  if (name === null || wanted === null) return false;
  if (name === wanted) return true;
  if (!name.startsWith('*.') || wanted.includes('*')) return false;
  const dot = wanted.indexOf('.');
  return dot > 0 && wanted.slice(dot) === name.slice(1);
}

/** What CAs count certificates by: the public suffix (also one of a private registry, as github.io) and the label before it; the name itself where there is none. */
export function registeredDomain(name: string): string {
  const bare = name.replace(/^\*\./, '');
  return getDomain(bare, { allowPrivateDomains: true }) ?? bare;
}

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** Suffixes of the public list below which nobody has a public name (RFC 7686, RFC 8375). */
const notPublic = new Set(['onion', 'home.arpa']);
const ipAddress = /^(\d{1,3}(\.\d{1,3}){3}|\[?[0-9a-f:]*:[0-9a-f:.]*\]?)$/i;

function problemOf(typed: string, ascii: string | null, policy: NamePolicy): Omit<Problem, 'path'> | null {
  const bare = ascii?.replace(/^\*\./, '') ?? '';
  // Also of the ASCII form: `1.2.3` and `0x7f.1` are addresses to `domainToASCII`.
  if (ipAddress.test(typed.trim()) || ipAddress.test(bare)) {
    return {
      code: 'name_is_ip_address',
      detail: `${typed} is an IP address; give a host name`,
    };
  }
  if (bare === '' || bare.length > 253 || !bare.split('.').every((part) => label.test(part))) {
    return {
      code: 'name_invalid',
      detail: `${typed} is not a host name (letters, digits and hyphens, 253 at the most)`,
    };
  }
  if (ascii?.startsWith('*.') && !policy.provesWildcards(ascii)) {
    return {
      code: 'wildcard_needs_dns_01',
      detail: `${ascii} is a wildcard: only a DNS challenge can prove it`,
    };
  }
  if (policy.allowInternalNames) return null;
  const { publicSuffix, isIcann } = parse(bare, { allowPrivateDomains: false });
  if (!bare.includes('.') && !isIcann) {
    return {
      code: 'name_not_public',
      detail: `${typed} is a name without a domain: a public CA validates public domain names only`,
    };
  }
  if (!isIcann || notPublic.has(publicSuffix ?? '')) {
    return {
      code: 'name_not_public',
      detail: `${typed} ends in .${publicSuffix}, which is not a public domain`,
    };
  }
  if (publicSuffix === bare) {
    return {
      code: 'name_is_public_suffix',
      detail: `${typed} is a public suffix: nobody can be given a certificate for it`,
    };
  }
  return null;
}

/**
 * The names of a certificate in the form the CA wants: lower-case punycode, each once, in the order given; the first is the primary one.
 * Throws `CertlineError` with one problem per bad name; `path` is the field they came in.
 */
export function parseNames(typed: readonly string[], policy: NamePolicy, path = 'names'): string[] {
  const problems: Problem[] = [];
  const names: string[] = [];
  for (const [index, text] of typed.entries()) {
    const ascii = toAsciiName(text);
    const problem = problemOf(text, ascii, policy);
    if (problem) problems.push({ path: `${path}[${index}]`, ...problem });
    else if (ascii !== null && !names.includes(ascii)) names.push(ascii);
  }
  const wildcards = names.length > maxNames ? [] : names.filter((name) => name.startsWith('*.'));
  for (const name of names) {
    const wildcard = wildcards.find((other) => other !== name && nameCovers(other, name));
    if (wildcard) {
      problems.push({
        path,
        code: 'wildcard_covers_name',
        detail: `${name} is already covered by ${wildcard}: give one of the two`,
      });
    }
  }
  if (problems.length === 0 && names.length === 0) {
    problems.push({
      path,
      code: 'names_missing',
      detail: 'give at least one name',
    });
  }
  if (names.length > maxNames) {
    problems.push({
      path,
      code: 'too_many_names',
      detail: `${names.length} names; ${maxNames} is the most`,
    });
  }
  const first = problems[0];
  if (first) throw new CertlineError(first.code, first.detail, { problems });
  return names;
}
