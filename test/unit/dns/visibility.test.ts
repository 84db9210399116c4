import { describe, expect, it } from 'vitest';
import { type Sight, visibilityProblem, withoutUnreachable } from '#libs/dns/authoritative';

const question = { name: '_acme-challenge.example.com', zone: 'example.com', value: 'wanted' };
const shows: Sight = { server: 'ns1.example', address: '192.0.2.1', state: 'shows' };
const lame: Sight = { server: 'ns2.example', address: '192.0.2.2', state: 'lame', why: 'answers REFUSED' };
const silent: Sight = { server: 'ns3.example', address: '192.0.2.3', state: 'silent', why: 'does not answer' };
const away: Sight = { server: 'ns1.example', address: '2001:db8::1', state: 'unreachable', why: 'cannot be reached' };
const other: Sight = {
  ...{ server: 'ns4.example', address: '192.0.2.4', state: 'hidden', rcode: 'NOERROR' },
  ...{ values: ['old', 'older'], serial: 41, alias: null },
};

describe('Addresses that cannot be reached from here', () => {
  it('are left out as long as there is another', () => {
    expect(withoutUnreachable([shows, away])).toEqual([shows]);
    expect(withoutUnreachable([silent, away])).toEqual([silent]);
    expect(withoutUnreachable([away])).toEqual([away]);
  });
});

describe('A value', () => {
  it('is visible when every server shows it, and not when none was asked', () => {
    expect(visibilityProblem(question, [shows, shows])).toBeNull();
    expect(visibilityProblem(question, [])).toMatchObject({ code: 'dns_record_not_visible' });
  });

  it('that is not visible names every server that is stuck, and why', () => {
    const error = visibilityProblem(question, [shows, lame, silent, other]);
    expect(error).toMatchObject({ code: 'dns_record_not_visible', plan: { kind: 'retryable' } });
    expect(error?.message).toBe(
      '_acme-challenge.example.com (TXT): ns2.example (192.0.2.2) answers REFUSED; ns3.example (192.0.2.3) does not answer; ns4.example (192.0.2.4) has other values: old, older, serial 41. The other one shows it.',
    );
  });

  it('that only servers without the zone keep back is a matter of the delegation', () => {
    expect(visibilityProblem(question, [shows, lame])).toMatchObject({ code: 'dns_delegation_lame' });
    expect(visibilityProblem(question, [away])).toMatchObject({ code: 'dns_record_not_visible' });
  });
});
