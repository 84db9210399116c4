import { describe, expect, it } from 'vitest';
import { accountLabel, challengeRecord } from '#libs/challenges/dns-records';
import { doesFor } from '#libs/challenges/persist-record';
import type { OpenChallenge } from '#libs/challenges/solver';

const token = 'pNvmJivs0WCko2suV7fhe-59oFqyYx_yB7tx6kIMAyE';
const thumbprint = 'HnWjTDnyqlCrm6tZ-6wX-TrEXgRdeNu9G71gqxSO6o0';
const digest = 'rzMmotrIgsithyBYc0vgiLUEEKYx0WetQRgEF2JIozA';
const exampleAccount = 'https://example.com/acme/acct/ExampleAccount';
const challenge = (more: Partial<OpenChallenge>): OpenChallenge => ({
  ...{ name: 'example.org', token, keyAuthorization: `${token}.${thumbprint}`, expires: 0 },
  ...{ accountUrl: 'https://ca.example/acct/123', issuerDomains: ['authority.example'], ...more },
});

describe('the record of dns-01', () => {
  it.each([
    ['www.example.org', '_acme-challenge.www.example.org'],
    ['*.example.org', '_acme-challenge.example.org'],
    ['*.a.example.org', '_acme-challenge.a.example.org'],
  ])('of %s is at %s, with the digest of the key authorization (RFC 8555 §8.4)', (name, expected) => {
    expect(challengeRecord('dns-01', challenge({ name }))).toEqual({ name: expected, value: digest });
  });
});

describe('the record of dns-account-01', () => {
  it('has the label of the account that the draft has in its example (draft-ietf-acme-dns-account-label-03 §3.2)', () => {
    expect(accountLabel(exampleAccount)).toBe('_ujmmovf2vn55tgye');
  });

  it.each(['example.org', '*.example.org'])('of %s is below that of dns-01, with the same value', (name) => {
    expect(challengeRecord('dns-account-01', challenge({ name, accountUrl: exampleAccount }))).toEqual({
      name: '_ujmmovf2vn55tgye._acme-challenge.example.org',
      value: digest,
    });
  });
});

describe('the record of dns-persist-01', () => {
  const recordOf = (more: Partial<OpenChallenge>) =>
    challengeRecord('dns-persist-01', challenge({ name: 'example.com', token: '', keyAuthorization: '', ...more }));

  it('has the value that the draft has in its example (draft-ietf-acme-dns-persist-01 §4.1)', () => {
    expect(recordOf({})).toEqual({
      name: '_validation-persist.example.com',
      value: 'authority.example; accounturi=https://ca.example/acct/123',
    });
  });

  it('lets the CA issue for all names below only where a wildcard is asked for', () => {
    expect(recordOf({ name: '*.example.com' })).toEqual({
      name: '_validation-persist.example.com',
      value: 'authority.example; accounturi=https://ca.example/acct/123; policy=wildcard',
    });
  });

  it('is the same whatever the order in which a CA names its issuers', () => {
    const [one, other] = [
      ['b.example', 'a.example'],
      ['a.example', 'b.example'],
    ].map((issuerDomains) => recordOf({ issuerDomains }));
    expect(one).toEqual(other);
  });

  it.each([
    ['no issuer', { issuerDomains: [] }],
    ['more issuers than the draft allows', { issuerDomains: Array.from({ length: 11 }, (_, at) => `ca${at}.example`) }],
    ['an issuer that says more than its name', { issuerDomains: ['ca.example; accounturi=https://other.example/1'] }],
    ['an account that says more than its URL', { accountUrl: 'https://ca.example/1; policy=wildcard' }],
    ['an account without a URL', { accountUrl: '' }],
  ])('is refused with %s', (_, more) => {
    expect(() => recordOf(more)).toThrow(expect.objectContaining({ code: 'challenge_unsupported' }));
  });
});

describe('a record of dns-persist-01 that is there', () => {
  const now = Date.UTC(2026, 0, 1);
  const [before, after] = [now / 1000 - 1, now / 1000 + 1];
  const own = 'ca.example; accounturi=https://ca.example/acct/1';
  const wildcard = `${own}; policy=wildcard`;

  it.each([
    [own, own],
    [own, wildcard],
    [own, 'ca.example;accounturi=https://ca.example/acct/1'],
    [own, `ca.example ;\tAccountURI = https://ca.example/acct/1`],
    [own, `${own}; persistUntil=${after}`],
    [own, `${own}; policy=specific-subdomains-only; unknown=1`],
    [wildcard, wildcard],
    [wildcard, `${own}; POLICY=WildCard; persistUntil=${after}`],
  ])('where %j is wanted does as %j', (wanted, text) => {
    expect(doesFor(wanted, text, now)).toBe(true);
  });

  it.each([
    [own, 'other.example; accounturi=https://ca.example/acct/1'],
    [own, 'ca.example; accounturi=https://ca.example/acct/12'],
    [own, 'ca.example; accounturi=https://ca.example/ACCT/1'],
    [own, 'ca.example'],
    [own, `${own};`],
    [own, `${own}; policy=wildcard; policy=wildcard`],
    [own, `${own}; persistUntil=${before}`],
    [own, `${own}; persistUntil=never`],
    [own, `${own}; policy`],
    [wildcard, own],
    [wildcard, `${own}; policy=other`],
  ])('where %j is wanted does not as %j', (wanted, text) => {
    expect(doesFor(wanted, text, now)).toBe(false);
  });
});
