import { describe, expect, it } from 'vitest';
import type { PlannedChange } from '#libs/iis/binding-plan';
import { carriersAfter } from '#libs/iis/carriers';
import { draftDeployment, planDeployment } from '#libs/iis/deployment-plan';
import type { HostState } from '#libs/iis/iis-host';
import { changesAt, replacedThumbprints, withoutSuperseded } from '#libs/iis/plan-restriction';
import { bindingKey } from '#libs/model/drift';
import type { TargetDeploy } from '#libs/model/order';
import { certificate, hostWith, http, https } from './plan-cases.ts';

/** Plans that are cut down to some places, and what is left alone because something newer is there. */
const place = (siteId: number, bindingInformation: string) => `${siteId}|https|${bindingInformation}`;
const toSite: TargetDeploy = { mode: 'site', target: 'tgt_1', site: 1 };
const toAll: TargetDeploy = { mode: 'auto', target: 'tgt_1' };
const keys = (changes: readonly PlannedChange[]) => changes.map((one) => `${one.op} ${bindingKey(one)}`);
const withFtp = (host: HostState, thumbprint: string, bindings: string[]): HostState => ({
  ...host,
  sites: host.sites.map((site) => ({
    ...site,
    bindings: [
      ...site.bindings,
      ...bindings.map((bindingInformation) => ({ ...http(bindingInformation), protocol: 'ftp' })),
    ],
    ftp: { thumbprint, store: 'My' },
  })),
});

describe('a plan for some places', () => {
  const planned = certificate('a.example.com', 'b.example.com');
  const host = hostWith({ 1: [https('*:443:a.example.com', 1, 'OLD'), http('*:80:b.example.com')] });

  it('has the changes at these places alone, and a hash of its own', () => {
    const only = [place(1, '*:443:b.example.com')];
    const plan = planDeployment(host, planned, { ...toSite, only });
    expect(keys(plan.changes)).toEqual(['add 1|https|*:443:b.example.com']);
    expect(plan.hash).not.toBe(planDeployment(host, planned, toSite).hash);
    expect(draftDeployment(host, planned, { ...toSite, only: [] }).changes).toEqual([]);
  });

  it('is empty where somebody has put the places right, whatever other places have', () => {
    const right = hostWith({ 1: [https('*:443:a.example.com', 1, 'NEW'), http('*:80:b.example.com')] });
    const deploy = { ...toSite, only: [place(1, '*:443:a.example.com')] };
    expect(planDeployment(right, planned, deploy).changes).toEqual([]);
  });

  it('is refused where nothing would put them right, with the reasons for these places', () => {
    const mixed = hostWith({ 1: [https('*:443:a.example.com', 1, 'NEW'), https('*:443:', 0, 'OLD')] });
    const deploy = { ...toSite, only: [place(1, '*:443:')] };
    expect(() => planDeployment(mixed, planned, deploy)).toThrow(
      expect.objectContaining({
        code: 'nothing_to_bind',
        evidence: { skipped: ['*:443: has no host name: only with blankHost'] },
      }),
    );
  });

  it('takes the update of another binding in where both have one record of http.sys, and no new binding', () => {
    const shared = hostWith({
      1: [https('10.0.0.1:443:a.example.com', 1, 'OLD'), http('*:80:b.example.com')],
      2: [https('10.0.0.2:443:a.example.com', 1, 'OLD'), https('10.0.0.2:443:b.example.com', 1, 'OLD')],
    });
    const { changes } = draftDeployment(shared, planned, toSite);
    expect(keys(changesAt(shared, changes, [place(2, '10.0.0.2:443:a.example.com')]))).toEqual([
      'update 1|https|10.0.0.1:443:a.example.com',
    ]);
    expect(changesAt(shared, changes, [place(2, '10.0.0.2:443:b.example.com')])).toEqual([]);
  });
});

describe('a plan that would take a newer certificate away', () => {
  const planned = certificate('a.example.com', 'b.example.com');
  const newer = new Map([['NEWER', ['a.example.com']]]);
  const restricted = (host: HostState, deploy: TargetDeploy = toAll) => {
    const { changes } = draftDeployment(host, planned, deploy);
    const { changes: kept, left } = withoutSuperseded(host, changes, newer);
    return { kept: keys(kept), left: left.map((one) => `${bindingKey(one)}: ${one.reason}`) };
  };

  it('leaves a binding alone whose host the newer one covers, and changes the others', () => {
    const host = hostWith({
      1: [https('*:443:a.example.com', 1, 'newer'), https('*:443:b.example.com', 1, 'NEWER')],
      2: [https('*:444:a.example.com', 1, 'OTHER')],
    });
    expect(restricted(host)).toEqual({
      kept: ['update 1|https|*:443:b.example.com', 'update 2|https|*:444:a.example.com'],
      left: ['1|https|*:443:a.example.com: has a newer certificate'],
    });
    expect(replacedThumbprints(host, draftDeployment(host, planned, toAll).changes)).toEqual(['NEWER', 'OTHER']);
  });

  it('leaves a binding without a host name alone, whatever the newer one covers', () => {
    const host = hostWith({ 1: [https('*:443:', 0, 'NEWER')] });
    const { kept, left } = restricted(host, { ...toSite, blankHost: true });
    expect([kept, left.length]).toEqual([[], 1]);
  });

  it('leaves alone what shares a record of http.sys with it, new bindings too', () => {
    const host = hostWith({
      1: [https('*:443:a.example.com', 0, 'NEWER'), https('*:443:b.example.com', 0, 'NEWER')],
      2: [https('10.0.0.1:444:a.example.com', 1, 'NEWER')],
      3: [http('*:80:a.example.com')],
    });
    expect(restricted(host)).toEqual({
      kept: [],
      left: [
        '1|https|*:443:a.example.com: has a newer certificate',
        '1|https|*:443:b.example.com: shares its record of http.sys with a newer certificate',
        '2|https|10.0.0.1:444:a.example.com: has a newer certificate',
      ],
    });
    expect(restricted(host, { mode: 'site', target: 'tgt_1', site: 3, port: 444 })).toEqual({
      kept: [],
      left: ['3|https|*:444:a.example.com: shares its record of http.sys with a newer certificate'],
    });
  });

  it('leaves an ftp site alone all of whose hosts the newer one covers', () => {
    const bare = hostWith({ 1: [] });
    expect(restricted(withFtp(bare, 'NEWER', ['*:21:a.example.com']), toSite).kept).toEqual([]);
    const two = withFtp(bare, 'NEWER', ['*:21:a.example.com', '*:2121:b.example.com']);
    expect(restricted(two, toSite)).toEqual({ kept: ['update 1|ftp|'], left: [] });
    expect(replacedThumbprints(two, draftDeployment(two, planned, toSite).changes)).toEqual(['NEWER']);
  });

  it('is as it was where nothing newer is there', () => {
    const host = hostWith({ 1: [https('*:443:a.example.com', 1, 'OLD')] });
    expect(restricted(host).kept).toEqual(['update 1|https|*:443:a.example.com']);
  });
});

describe('the places that carry a certificate after a deployment', () => {
  const planned = certificate('a.example.com');
  const carriers = (host: HostState, deploy: TargetDeploy) => {
    const { changes } = draftDeployment(host, planned, deploy);
    return carriersAfter(host, changes, 'new', deploy).map(
      (one) => `${bindingKey(one)}${one.changed ? ' changed' : ''}`,
    );
  };

  it('are those it is brought to, and those of what was meant that had it', () => {
    const host = hostWith({
      1: [https('*:443:a.example.com', 1, 'NEW'), http('*:80:a.example.com'), https('*:444:a.example.com', 1, 'OLD')],
      2: [https('*:445:a.example.com', 1, 'NEW'), https('*:446:other.example.com', 1, 'OLD')],
    });
    const ofSite = ['1|https|*:443:a.example.com', '1|https|*:444:a.example.com changed'];
    expect(carriers(host, toSite)).toEqual(ofSite);
    expect(carriers(host, toAll)).toEqual([...ofSite, '2|https|*:445:a.example.com']);
    expect(carriers(host, { ...toAll, only: [place(1, '*:444:a.example.com')] })).toEqual([
      '1|https|*:444:a.example.com changed',
    ]);
    expect(carriers(withFtp(hostWith({ 1: [] }), 'OLD', ['*:21:a.example.com']), toSite)).toEqual(['1|ftp| changed']);
    expect(carriers(hostWith({ 1: [http('*:80:a.example.com')] }), toSite)).toEqual([
      '1|https|*:443:a.example.com changed',
    ]);
  });

  it('are also those that follow because they share a record of http.sys, at the first time and later', () => {
    const sites = (thumbprint: string) =>
      hostWith({
        1: [https('10.0.0.1:443:a.example.com', 1, thumbprint)],
        2: [https('10.0.0.2:443:a.example.com', 1, thumbprint)],
      });
    expect(carriers(sites('OLD'), toSite)).toEqual([
      '1|https|10.0.0.1:443:a.example.com changed',
      '2|https|10.0.0.2:443:a.example.com changed',
    ]);
    expect(carriers(sites('NEW'), toSite)).toEqual([
      '1|https|10.0.0.1:443:a.example.com',
      '2|https|10.0.0.2:443:a.example.com',
    ]);
  });
});
