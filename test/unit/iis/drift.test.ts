import { describe, expect, it } from 'vitest';
import { driftOf, foundInstead, type HostComparison, type KnownCertificate } from '#libs/iis/drift';
import type { HostState } from '#libs/iis/iis-host';
import type { Difference, Expectation } from '#libs/model/drift';
import type { TargetDeploy } from '#libs/model/order';
import { hostWith, http, https } from './plan-cases.ts';

/** What of a host counts as drift, and what a repair could do about it. */
const now = Date.UTC(2026, 0, 1);
const known = (id: string, thumbprint: string, createdAt: number, notAfter = now + 1): KnownCertificate => ({
  ...{ id, thumbprint, createdAt, notAfter, names: ['a.example.com'] },
});
const own = known('crt_1', 'OWN', 10);
const toSite: TargetDeploy = { mode: 'site', target: 'tgt_1', site: 1 };

const expectation = (place: string, more: Partial<Expectation> = {}): Expectation => ({
  ...{ place, order: 'ord_1', certificate: 'crt_1', thumbprint: 'OWN', store: 'My', sslFlags: 1, deploy: toSite },
  ...{ at: 0, ...more },
});
const binding = '1|https|*:443:a.example.com';

function drift(state: HostState, more: Partial<HostComparison> = {}): Difference[] {
  const found = [known('crt_2', 'NEWER', 11), known('crt_3', 'OLDER', 9)];
  return driftOf({
    ...{ state, expectations: [expectation(binding)], certificates: new Map([['crt_1', own]]), now },
    found: new Map(found.map((one) => [one.thumbprint, one])),
    ...{ ours: new Set(['OWN', 'NEWER', 'OLDER']), underWay: new Set<string>(), ...more },
  });
}
const only = (differences: Difference[]): Difference => {
  expect(differences).toHaveLength(1);
  return differences[0] as Difference;
};
const serving = (thumbprint: string | null) => hostWith({ 1: [https('*:443:a.example.com', 1, thumbprint)] });

describe('a place', () => {
  it('that has what is expected is in order, in whatever letters, and whatever else is on the host', () => {
    const state = hostWith({
      1: [https('*:443:a.example.com', 1, 'own'), https('*:444:a.example.com', 1, 'OTHER'), http('*:80:x')],
      2: [https('*:445:a.example.com', 1, 'OTHER')],
    });
    expect(drift(state)).toEqual([]);
    expect(foundInstead(state, [expectation(binding)])).toEqual([]);
  });

  it('is the same however somebody writes its host name', () => {
    const state = hostWith({ 1: [https('*:443:WWW.a.Example.com', 1, 'OWN'), https('*:443:A.Example.COM', 1, 'OWN')] });
    expect(drift(state)).toEqual([]);
    const other = hostWith({ 1: [https('*:443:A.Example.COM', 1, 'OTHER')] });
    expect(foundInstead(other, [expectation(binding)])).toEqual(['OTHER']);
    expect(only(drift(other))).toMatchObject({ place: binding, actual: { thumbprint: 'OTHER' }, unrepairable: null });
  });

  it.each([
    ['NEWER', 'a newer certificate of certline (crt_2)', expect.stringContaining('has a newer certificate: accept it')],
    ['OLDER', 'an older certificate of certline (crt_3)', null],
    ['OTHER', 'which is no certificate of certline', null],
  ])(
    'that has %s instead is told as what it is, and repaired unless it is newer',
    (thumbprint, words, unrepairable) => {
      const state = serving(thumbprint);
      expect(only(drift(state))).toEqual({
        ...{ place: binding, site: 'site1', order: 'ord_1', certificate: 'crt_1' },
        expected: { thumbprint: 'OWN', store: 'My' },
        actual: { thumbprint, store: 'My' },
        detail: `*:443:a.example.com of site1 has ${thumbprint}, ${words}, instead of OWN`,
        unrepairable,
      });
      expect(foundInstead(state, [expectation(binding)])).toEqual([thumbprint]);
    },
  );

  it('that has a newer certificate of another name is repaired: nobody would want it there', () => {
    const stranger = { ...known('crt_4', 'STRANGER', 11), names: ['b.example.com'] };
    const found = new Map([['STRANGER', stranger]]);
    expect(only(drift(serving('STRANGER'), { found })).unrepairable).toBeNull();
  });

  it('that has no certificate, or takes it from another store, can be repaired', () => {
    expect(only(drift(serving(null)))).toMatchObject({
      detail: '*:443:a.example.com of site1 has no certificate instead of OWN',
      unrepairable: null,
    });
    const [site] = serving('OWN').sites;
    const bindings = site?.bindings.map((one) => ({ ...one, store: 'WebHosting' })) ?? [];
    expect(only(drift(hostWith({ 1: bindings })))).toMatchObject({
      detail: '*:443:a.example.com of site1 takes OWN from the store WebHosting instead of My',
      unrepairable: null,
    });
  });

  it('that is gone can be repaired where the http binding is still there', () => {
    expect(only(drift(hostWith({ 1: [http('*:80:a.example.com')] })))).toMatchObject({
      ...{ site: 'site1', actual: null, unrepairable: null, detail: '*:443:a.example.com is gone from site1' },
    });
    expect(only(drift(hostWith({ 1: [] })))).toMatchObject({
      unrepairable: expect.stringContaining('add the binding, or an http binding'),
    });
  });

  it('whose site is gone cannot', () => {
    expect(only(drift(hostWith({ 2: [https('*:443:a.example.com', 1, 'OWN')] })))).toMatchObject({
      ...{ site: null, actual: null, detail: 'site 1 is gone', unrepairable: 'site 1 is gone' },
    });
  });

  it('that the deployment leaves to others is told with the reason', () => {
    const expectations = [expectation(binding, { deploy: { ...toSite, replace: 'ours' } })];
    expect(only(drift(serving('OTHER'), { expectations })).unrepairable).toBe(
      'carries the certificate OTHER, which is not ours: only our own are replaced',
    );
    expect(only(drift(serving('OLDER'), { expectations })).unrepairable).toBeNull();
  });

  it('whose certificate has expired, or is gone from certline, is drift that nothing repairs', () => {
    const expired = new Map([['crt_1', { ...own, notAfter: now }]]);
    expect(drift(serving('OWN'), { certificates: expired })).toEqual([]);
    expect(only(drift(serving('OTHER'), { certificates: expired })).unrepairable).toMatch(
      /^the certificate expired at 2026-01-01T/,
    );
    expect(only(drift(serving('NEWER'), { certificates: new Map() }))).toMatchObject({
      detail: expect.stringContaining('another certificate of certline (crt_2)'),
      unrepairable: 'certificate crt_1 is gone from certline: order a new one',
    });
  });

  it('that has what an unfinished order brings is about to be expected to', () => {
    expect(drift(serving('NEWER'), { underWay: new Set(['NEWER']) })).toEqual([]);
    expect(drift(serving('OLDER'), { underWay: new Set(['NEWER']) })).toHaveLength(1);
  });

  it('is planned as its own order asked: what once was for one time does not count', () => {
    const deploy = { ...toSite, planHash: 'of another plan', only: [] };
    expect(only(drift(serving('OTHER'), { expectations: [expectation(binding, { deploy })] })).unrepairable).toBeNull();
    const lost = { ...toSite, site: 9 };
    expect(
      only(drift(serving('OTHER'), { expectations: [expectation(binding, { deploy: lost })] })).unrepairable,
    ).toContain('no IIS site 9');
  });
});

describe('an ftp site', () => {
  const expectations = [expectation('1|ftp|', { sslFlags: 0 })];
  const ftp = (thumbprint: string | null): HostState => {
    const { sites, ...rest } = hostWith({ 1: [{ ...http('*:21:a.example.com'), protocol: 'ftp' }] });
    return { ...rest, sites: sites.map((site) => ({ ...site, ftp: { thumbprint, store: 'My' } })) };
  };

  it('has its certificate, another one, or no ftp bindings', () => {
    expect(drift(ftp('OWN'), { expectations })).toEqual([]);
    expect(only(drift(ftp('OLDER'), { expectations }))).toMatchObject({
      ...{ place: '1|ftp|', actual: { thumbprint: 'OLDER', store: 'My' }, unrepairable: null },
      detail: 'ftp of site1 has OLDER, an older certificate of certline (crt_3), instead of OWN',
    });
    expect(only(drift(hostWith({ 1: [] }), { expectations }))).toMatchObject({
      ...{ actual: null, detail: 'site1 has no ftp bindings' },
      unrepairable: expect.stringContaining('would not add it'),
    });
  });
});
