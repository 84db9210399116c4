import { describe, expect, it } from 'vitest';
import { planBindings } from '#libs/iis/binding-plan';
import { planDeployment } from '#libs/iis/deployment-plan';
import type { Binding, HostState } from '#libs/iis/iis-host';
import { putBack } from '#libs/iis/put-back';
import { IisModel } from './iis-model.ts';
import { certificate, hostWith, http, https, site1 } from './plan-cases.ts';

const ftp = (bindingInformation: string): Binding => ({ ...http(bindingInformation), protocol: 'ftp' });
/** Site 1 with ftp bindings and a certificate for them, and what else is told. */
function ftpHost(bindings: string[], thumbprint: string | null, others: Binding[] = []): HostState {
  const host = hostWith({ 1: [...bindings.map(ftp), ...others], 2: [http('*:80:x.org')] });
  const store = thumbprint === null ? null : 'MY';
  return {
    ...host,
    sites: host.sites.map((site) => (site.id === 1 ? { ...site, ftp: { thumbprint, store } } : site)),
  };
}
const site2 = { ...site1, site: 2 };
const update = {
  op: 'update',
  siteId: 1,
  protocol: 'ftp',
  bindingInformation: '',
  sslFlags: 0,
  thumbprint: 'NEW',
  store: 'My',
};

describe('the certificate of an ftp site', () => {
  it('is replaced in the chosen site when a host of its ftp bindings is covered', () => {
    const plan = planBindings(ftpHost(['*:21:FTP.example.com'], 'X'), certificate('ftp.example.com'), site1);
    expect(plan.changes).toEqual([
      { ...update, expect: { thumbprint: 'X', sslFlags: 0 }, reason: expect.stringContaining('covers a host') },
    ]);
    expect(plan.unbound).toEqual([]);
  });

  it('is set where there was none', () => {
    const plan = planBindings(ftpHost(['*:21:ftp.example.com'], null), certificate('ftp.example.com'), site1);
    expect(plan.changes).toMatchObject([{ ...update, expect: { thumbprint: null, sslFlags: 0 } }]);
  });

  it('does not follow the hosts of other bindings of the site', () => {
    const host = ftpHost(['*:21:'], 'X', [https('*:443:a.example.com', 1, 'X')]);
    const plan = planBindings(host, certificate('a.example.com'), site1);
    expect(plan.changes).toMatchObject([{ protocol: 'https' }]);
    expect(plan.skipped).toEqual([
      {
        siteId: 1,
        protocol: 'ftp',
        bindingInformation: '',
        reason: 'its ftp bindings have no host name: only with blankHost',
      },
    ]);
  });

  it.each([
    ['one of ours', 'OURS', { ours: new Set(['ours']) }],
    ['the one that is replaced', 'OLD', { oldThumbprint: 'old' }],
    ['anything, and blankHost is asked for', 'X', { blankHost: true }],
  ] as const)('without a host name is replaced in the chosen site when it is %s', (_, thumbprint, options) => {
    const plan = planBindings(ftpHost(['*:21:'], thumbprint), certificate('a.example.com'), { ...site1, ...options });
    expect(plan.changes).toMatchObject([update]);
  });

  it('is replaced in another site only when it is the one that is replaced', () => {
    const names = certificate('ftp.example.com');
    const host = (thumbprint: string) => ftpHost(['*:21:ftp.example.com'], thumbprint);
    const options = { oldThumbprint: 'OLD', blankHost: true, ours: new Set(['OURS']) };
    for (const other of [
      { ...site2, ...options },
      { mode: 'auto' as const, store: 'My', ...options },
    ]) {
      expect(planBindings(host('OLD'), names, other).changes).toMatchObject([update]);
      expect(planBindings(host('OURS'), names, other).changes).toEqual([]);
    }
  });

  it('stays with a warning when the new one covers none of its hosts', () => {
    const host = ftpHost(['*:21:ftp.other.org'], 'OLD');
    const plan = planBindings(host, certificate('a.example.com'), { ...site2, oldThumbprint: 'OLD' });
    expect(plan.changes).toEqual([]);
    expect(plan.skipped).toMatchObject([{ protocol: 'ftp', reason: expect.stringContaining('covers none') }, {}]);
    expect(plan.warnings).toEqual([expect.stringContaining('ftp of site 1 stays on the old certificate OLD')]);
  });

  it('stays when only our own are replaced and it is not', () => {
    const host = ftpHost(['*:21:ftp.example.com'], 'THEIRS');
    const plan = planBindings(host, certificate('ftp.example.com'), { ...site1, replace: 'ours' });
    expect(plan.changes).toEqual([]);
    expect(plan.skipped[0]?.reason).toContain('THEIRS, which is not ours');
  });

  it('is bound already: the order has nothing left to do and is not refused', () => {
    const names = certificate('ftp.example.com');
    const deploy = { mode: 'site', target: 'tgt_1', site: 1, blankHost: true } as const;
    for (const binding of ['*:21:ftp.example.com', '*:21:']) {
      expect(planDeployment(ftpHost([binding], 'NEW'), names, deploy).changes).toEqual([]);
    }
    expect(() => planDeployment(ftpHost(['*:21:ftp.other.org'], 'X'), names, deploy)).toThrow(
      'ftp of site 1: the certificate covers no host of its ftp bindings',
    );
  });

  it('is put back, to none if there was none', () => {
    for (const thumbprint of ['X', null]) {
      const host = ftpHost(['*:21:ftp.example.com'], thumbprint);
      const model = new IisModel(host);
      const before = model.read();
      const { changes } = planBindings(host, certificate('ftp.example.com'), site1);
      model.apply(changes);
      const undo = putBack(before, model.read(), changes);
      const store = thumbprint === null ? null : 'MY';
      expect(undo).toEqual([{ ...update, thumbprint, store, expect: { thumbprint: 'NEW', sslFlags: 0 } }]);
      model.apply(undo);
      expect(model.read()).toEqual(before);
    }
  });

  it('is left alone when somebody else has changed it since', () => {
    const before = ftpHost(['*:21:ftp.example.com'], 'X');
    const { changes } = planBindings(before, certificate('ftp.example.com'), site1);
    expect(putBack(before, ftpHost(['*:21:ftp.example.com'], 'THEIRS'), changes)).toEqual([]);
  });
});
