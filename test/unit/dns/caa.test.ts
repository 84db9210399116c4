import { describe, expect, it } from 'vitest';
import { type CaaQuestion, caaAllows } from '#libs/dns/caa';

const account = 'https://ca.example/acct/1';
const usual: CaaQuestion = {
  issuerDomains: ['ca.example', 'alias.example'],
  ...{ wildcard: false, accountUri: account, method: 'dns-01' },
};
const wild: CaaQuestion = { ...usual, wildcard: true };

/** `0 issue ca.example`: flags, tag and the rest as the value. */
const record = (text: string) => {
  const [, flags = '', tag = '', value = ''] = /^(\d+) (\S+) ?(.*)$/.exec(text) ?? [];
  return { flags: Number(flags), tag, value };
};
const verdict = (question: CaaQuestion, ...records: string[]) => caaAllows(records.map(record), question);

describe('CAA records (RFC 8659)', () => {
  it.each<[boolean, CaaQuestion, string[]]>([
    [true, usual, []],
    [true, usual, ['0 issue ca.example']],
    [true, usual, ['0 ISSUE CA.Example']],
    [true, usual, ['0 issue alias.example']],
    [true, usual, ['0 issue other.example', '0 issue ca.example']],
    [true, usual, ['0 issue  \tca.example ; ']],
    [false, usual, ['0 issue other.example']],
    [false, usual, ['0 issue sub.ca.example']],
    [false, usual, ['0 issue ;']],
    [false, usual, ['0 issue ']],
    [true, usual, ['0 issue ;', '0 issue ca.example']],
    // What says nothing of issuing does not restrict it.
    [true, usual, ['0 iodef mailto:security@example.com']],
    [true, usual, ['128 iodef mailto:security@example.com', '128 issuemail other.example', '128 contactemail a@b.c']],
    [true, usual, ['0 tbs unknown']],
    // Critical: 128 by the RFC, 1 by a common mistake that Let's Encrypt heeds.
    [false, usual, ['128 tbs unknown', '0 issue ca.example']],
    [false, usual, ['1 tbs unknown', '0 issue ca.example']],
    [true, usual, ['64 tbs unknown', '0 issue ca.example']],
    [true, usual, ['128 issue ca.example']],
    // issuewild takes the place of issue for wildcards, and is nothing to other names.
    [true, usual, ['0 issuewild ;']],
    [true, usual, ['0 issuewild other.example', '0 issue ca.example']],
    [false, wild, ['0 issuewild ;', '0 issue ca.example']],
    [true, wild, ['0 issuewild ca.example', '0 issue ;']],
    [true, wild, ['0 issue ca.example']],
    [false, wild, ['0 issue other.example']],
    [true, wild, ['0 iodef mailto:security@example.com']],
    // What is written wrong names nobody.
    [false, usual, ['0 issue ca.example; policy']],
    [false, usual, ['0 issue ca.example other.example']],
    [false, usual, ['0 issue ca.example; a b=c']],
    [false, usual, ['0 issue ca_example']],
    [true, usual, ['0 issue ca.example; policy=ev']],
  ])('%s for %o with %j', (allowed, question, records) => {
    expect(verdict(question, ...records).allowed).toBe(allowed);
  });

  it('say which record decided', () => {
    expect(verdict(usual, '0 issue ca.example').reason).toBe('the record 0 issue "ca.example" allows it');
    expect(verdict(usual, '0 issue other.example').reason).toBe(
      '0 issue "other.example" leaves out ca.example or alias.example',
    );
    expect(verdict(usual, '128 tbs x').reason).toContain('128 tbs "x" is critical');
  });

  it('forbid a CA without a known name only where they forbid everybody', () => {
    const nameless = { ...usual, issuerDomains: [] };
    expect(verdict(nameless, '0 issue other.example').allowed).toBe(true);
    expect(verdict(nameless, '0 issue ;')).toEqual({ allowed: false, reason: '0 issue ";" forbids every CA' });
  });
});

describe('Parameters of CAA records (RFC 8657)', () => {
  it.each<[boolean, string]>([
    [true, `accounturi=${account}`],
    [true, `AccountURI=${account}`],
    [false, 'accounturi=https://ca.example/acct/2'],
    [false, `accounturi=${account}/`],
    [false, `accounturi=${account}; accounturi=${account}`],
    [true, 'validationmethods=dns-01'],
    [true, 'validationmethods=http-01,dns-01'],
    [false, 'validationmethods=http-01'],
    [false, 'validationmethods='],
    [false, 'validationmethods=dns-01,ca_own'],
    [false, 'validationmethods=dns-01; validationmethods=dns-01'],
    [true, `validationmethods=dns-01 ; accounturi = ${account}`],
    [false, `validationmethods=http-01; accounturi=${account}`],
  ])('%s: %s', (allowed, parameters) => {
    expect(verdict(usual, `0 issue ca.example; ${parameters}`).allowed).toBe(allowed);
  });

  it('of one record do not bind another', () => {
    expect(verdict(usual, '0 issue ca.example; validationmethods=http-01', '0 issue ca.example').allowed).toBe(true);
  });

  it('are not held against an account or a method that is not known yet', () => {
    const early = { ...usual, accountUri: null, method: null };
    expect(verdict(early, `0 issue ca.example; accounturi=${account}; validationmethods=http-01`).allowed).toBe(true);
  });

  it('are named when they forbid', () => {
    expect(verdict(usual, '0 issue ca.example; validationmethods=http-01').reason).toBe(
      'the record 0 issue "ca.example; validationmethods=http-01" does not allow dns-01',
    );
    expect(verdict(usual, '0 issue ca.example; accounturi=https://ca.example/acct/2').reason).toContain(
      `is for another account than ${account}`,
    );
  });
});
