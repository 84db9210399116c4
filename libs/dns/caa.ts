import type { CaaRecord } from './message.ts';

export interface CaaQuestion {
  /** The names that the CA goes by in CAA records: `meta.caaIdentities` of its directory (RFC 8555 §7.1.1). */
  issuerDomains: readonly string[];
  wildcard: boolean;
  /** URL of the ACME account; null when there is none yet, and then `accounturi` is not looked at. */
  accountUri: string | null;
  /** `dns-01`, `http-01`; null when it is not known yet. */
  method: string | null;
}

export interface CaaVerdict {
  allowed: boolean;
  /** A sentence's end for a person: `the record 0 issue "ca.example" allows it`. */
  reason: string;
}

/** Tags that a CA knows without being kept from issuing by them: RFC 8659 §4.4, RFC 9495, CA/Browser Forum's contact tags. */
const harmless = new Set(['iodef', 'issuemail', 'contactemail', 'contactphone']);
/** Bit 0 of the RFC has the value 128. Many wrote 1 for it; Boulder (Let's Encrypt) counts both (va/caa.go). */
const criticalFlags = 128 | 1;

const domain = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/i;
const parameterForm = /^[ \t]*([a-z0-9](?:-*[a-z0-9])*)[ \t]*=[ \t]*([\x21-\x3a\x3c-\x7e]*)[ \t]*$/i;
const methodForm = /^[a-z0-9-]+$/i;

interface Issuer {
  /** Empty: nobody. */
  domain: string;
  /** Every value of each parameter, under its name in lower case. */
  parameters: Map<string, string[]>;
}

/** An issue value (RFC 8659 §4.2); one that is written wrong names nobody, as the RFC has it. */
function issuerOf(value: string): Issuer {
  const nobody = { domain: '', parameters: new Map<string, string[]>() };
  const [first = '', ...rest] = value.split(';');
  const name = first.replace(/^[ \t]+|[ \t]+$/g, '');
  if (name !== '' && !domain.test(name)) return nobody;
  const parameters = new Map<string, string[]>();
  const onlyBlank = rest.length === 1 && /^[ \t]*$/.test(rest[0] ?? '');
  for (const text of onlyBlank ? [] : rest) {
    const [, tag, content = ''] = parameterForm.exec(text) ?? [];
    if (tag === undefined) return nobody;
    const key = tag.toLowerCase();
    parameters.set(key, [...(parameters.get(key) ?? []), content]);
  }
  return { domain: name.toLowerCase(), parameters };
}

/** Why the parameters of RFC 8657 keep a record from allowing it; null when they do not. A parameter that is there twice allows nothing. */
function withheld({ parameters }: Issuer, { accountUri, method }: CaaQuestion): string | null {
  const accounts = parameters.get('accounturi') ?? [];
  if (accounts.length > 1) return 'has accounturi twice, which allows nobody';
  if (accounts[0] !== undefined && accountUri !== null && accounts[0] !== accountUri) {
    return `is for another account than ${accountUri}`;
  }
  const lists = parameters.get('validationmethods') ?? [];
  if (lists.length > 1) return 'has validationmethods twice, which allows nobody';
  if (lists[0] === undefined) return null;
  const methods = lists[0].split(',');
  if (!methods.every((one) => methodForm.test(one))) return 'has validationmethods that cannot be read';
  return method === null || methods.includes(method) ? null : `does not allow ${method}`;
}

/** As a zone file has it. */
export const caaText = ({ flags, tag, value }: CaaRecord): string => `${flags} ${tag} "${value}"`;

/**
 * Whether a CA may issue under the relevant CAA records of a name (RFC 8659 §4, RFC 8657). Without any it may.
 * Where the CA does not tell how it is called, records that name others are no verdict on it: then only those that forbid everybody count.
 */
export function caaAllows(records: readonly CaaRecord[], question: CaaQuestion): CaaVerdict {
  const tagged = (tag: string): CaaRecord[] => records.filter((one) => one.tag.toLowerCase() === tag);
  const known = new Set(['issue', 'issuewild', ...harmless]);
  const unknown = records.find(({ flags, tag }) => (flags & criticalFlags) !== 0 && !known.has(tag.toLowerCase()));
  if (unknown) {
    return {
      allowed: false,
      reason: `the record ${caaText(unknown)} is critical and of a kind that CAs do not know: no CA may issue`,
    };
  }

  // For a wildcard issuewild takes the place of issue, where there is one; for other names it says nothing (RFC 8659 §4.3).
  const wild = question.wildcard ? tagged('issuewild') : [];
  const relevant = wild.length > 0 ? wild : tagged('issue');
  if (relevant.length === 0) {
    return { allowed: true, reason: records.length === 0 ? 'there is no CAA record' : 'no CAA record restricts it' };
  }
  const issuers = relevant.map((record) => ({ record, issuer: issuerOf(record.value) }));
  if (issuers.every(({ issuer }) => issuer.domain === '')) {
    return { allowed: false, reason: `${relevant.map(caaText).join(' and ')} forbids every CA` };
  }
  const ours = new Set(question.issuerDomains.map((name) => name.toLowerCase()));
  if (ours.size === 0) return { allowed: true, reason: 'the CA does not tell its name in CAA records' };
  const called = [...ours].join(' or ');
  const refusals: string[] = [];
  for (const { record, issuer } of issuers.filter((one) => ours.has(one.issuer.domain))) {
    const why = withheld(issuer, question);
    if (why === null) return { allowed: true, reason: `the record ${caaText(record)} allows it` };
    refusals.push(`the record ${caaText(record)} ${why}`);
  }
  if (refusals.length > 0) return { allowed: false, reason: refusals.join('; ') };
  return { allowed: false, reason: `${relevant.map(caaText).join(' and ')} leaves out ${called}` };
}
