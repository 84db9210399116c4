import { createHash } from 'node:crypto';
import type { DnsChallengeType } from '../model/challenge-method.ts';
import { persistValue } from './persist-record.ts';
import type { OpenChallenge } from './solver.ts';

/** The TXT record that a CA reads for a challenge, before CNAMEs are followed. */
export interface ChallengeRecord {
  name: string;
  value: string;
}

/** RFC 4648 §6, in lower case as names are. */
const base32 = 'abcdefghijklmnopqrstuvwxyz234567';

/** The label of an account (draft-ietf-acme-dns-account-label-03 §3.2): other accounts prove the same name at names of their own. */
export function accountLabel(accountUrl: string): string {
  const digest = createHash('sha256').update(accountUrl).digest().subarray(0, 10);
  const bits = Array.from(digest, (byte) => byte.toString(2).padStart(8, '0')).join('');
  return `_${bits.replace(/.{5}/g, (five) => base32[Number.parseInt(five, 2)] ?? '')}`;
}

/** What the record of dns-01 and dns-account-01 must hold: the digest of the key authorization (RFC 8555 §8.4). */
function digestOf({ keyAuthorization }: OpenChallenge): string {
  return createHash('sha256').update(keyAuthorization).digest('base64url');
}

/** The name of the record, before CNAMEs are followed; a wildcard has that of its parent. */
export function challengeName(
  type: DnsChallengeType,
  { name, accountUrl }: Pick<OpenChallenge, 'name' | 'accountUrl'>,
): string {
  const bare = name.replace(/^\*\./, '');
  switch (type) {
    case 'dns-01':
      return `_acme-challenge.${bare}`;
    case 'dns-account-01':
      return `${accountLabel(accountUrl)}._acme-challenge.${bare}`;
    case 'dns-persist-01':
      return `_validation-persist.${bare}`;
  }
}

/** The record of a challenge. Throws `challenge_unsupported` for a dns-persist-01 that names no issuer. */
export function challengeRecord(type: DnsChallengeType, challenge: OpenChallenge): ChallengeRecord {
  const value = type === 'dns-persist-01' ? persistValue(challenge) : digestOf(challenge);
  return { name: challengeName(type, challenge), value };
}
