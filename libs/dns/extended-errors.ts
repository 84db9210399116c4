import type { ExtendedError } from './message.ts';

/** Names of the codes (RFC 8914 §4; IANA's registry "Extended DNS Error Codes"). */
const names: Record<number, string> = {
  0: 'other error',
  1: 'unsupported DNSKEY algorithm',
  2: 'unsupported DS digest type',
  3: 'stale answer',
  4: 'forged answer',
  5: 'DNSSEC indeterminate',
  6: 'DNSSEC bogus',
  7: 'signature expired',
  8: 'signature not yet valid',
  9: 'DNSKEY missing',
  10: 'RRSIGs missing',
  11: 'no zone key bit set',
  12: 'NSEC missing',
  13: 'cached error',
  14: 'not ready',
  15: 'blocked',
  16: 'censored',
  17: 'filtered',
  18: 'prohibited',
  19: 'stale NXDOMAIN answer',
  20: 'not authoritative',
  21: 'not supported',
  22: 'no reachable authority',
  23: 'network error',
  24: 'invalid data',
};

/** The codes with which a validating resolver says that it could not validate. */
const validationFailures = new Set([6, 7, 8, 9, 10, 11, 12]);

/** Whether a resolver says that the signatures do not hold. */
export function saysBogus(errors: readonly ExtendedError[]): boolean {
  return errors.some(({ code }) => validationFailures.has(code));
}

/** ` (signature expired: …)`, empty without any. What a server wrote is cut: it is a stranger's. */
export function extendedErrorWords(errors: readonly ExtendedError[]): string {
  const words = errors.map(({ code, text }) => {
    const name = names[code] ?? `extended error ${code}`;
    const said = text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
    return said === '' ? name : `${name}: ${said}`;
  });
  return words.length === 0 ? '' : ` (${words.join('; ')})`;
}
