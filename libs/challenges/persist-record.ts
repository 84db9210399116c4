import { CertlineError } from '../errors.ts';
import type { OpenChallenge } from './solver.ts';

/** As many as a CA may name; more are no challenge (draft-ietf-acme-dns-persist-01 §3.1). */
const mostIssuers = 10;
const domainName = /^(?!.{254})[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*$/;
/** What a parameter of an issue-value may be made of (RFC 8659 §4.2). */
const parameterValue = /^[\x21-\x3a\x3c-\x7e]+$/;

/**
 * Value of the record that lets an account prove a name at its CA for good (draft-ietf-acme-dns-persist-01 §4.1): every CA takes the URL of the
 * account for `accounturi`. A record for a wildcard is good for all names below, so nobody gets `policy=wildcard` without asking for one.
 * Throws `challenge_unsupported` when the CA does not name itself, or something that is not of the form: a zone's owner would sign a text that
 * says something else.
 */
export function persistValue({ name, accountUrl, issuerDomains }: OpenChallenge): string {
  const [issuer] = [...issuerDomains].sort();
  if (issuer === undefined || issuerDomains.length > mostIssuers || !issuerDomains.every((one) => domainName.test(one)))
    throw new CertlineError(
      'challenge_unsupported',
      `the CA names ${issuerDomains.length === 0 ? 'no issuer' : 'issuers that cannot be used'} (issuer-domain-names) in dns-persist-01 for ${name}`,
    );
  if (!parameterValue.test(accountUrl))
    throw new CertlineError('challenge_unsupported', `the URL of the account, ${accountUrl}, fits into no TXT record`);
  const policy = name.startsWith('*.') ? '; policy=wildcard' : '';
  return `${issuer}; accounturi=${accountUrl}${policy}`;
}

interface PersistRecord {
  issuer: string;
  /** Parameters by tag, in lower case. */
  parameters: Map<string, string>;
}

/** An issue-value (RFC 8659 §4.2); null for what is none. */
function read(text: string): PersistRecord | null {
  const [issuer = '', ...rest] = text.split(';').map((part) => part.replace(/^[ \t]+|[ \t]+$/g, ''));
  const parameters = new Map<string, string>();
  for (const parameter of rest) {
    const [, tag = '', value = ''] = /^([A-Za-z0-9-]+)[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)$/.exec(parameter) ?? [];
    const key = tag.toLowerCase();
    if (key === '' || parameters.has(key)) return null;
    parameters.set(key, value);
  }
  return { issuer, parameters };
}

/** Whether a record does what a wanted one would do: that very one, or one of a wider policy, which may be for a time. */
export function doesFor(wanted: string, text: string, now: number): boolean {
  const [one, other] = [read(wanted), read(text)];
  if (one === null || other === null || one.issuer !== other.issuer) return false;
  const [asked, given] = [one.parameters, other.parameters];
  if (asked.get('accounturi') !== given.get('accounturi')) return false;
  if (asked.has('policy') && given.get('policy')?.toLowerCase() !== 'wildcard') return false;
  const until = given.get('persistuntil');
  return until === undefined || (/^\d+$/.test(until) && Number(until) * 1000 > now);
}
