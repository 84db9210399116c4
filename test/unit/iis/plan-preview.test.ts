import { describe, expect, it } from 'vitest';
import { type BindingPlanOptions, planBindings } from '#libs/iis/binding-plan';
import type { HostState } from '#libs/iis/iis-host';
import { describePlan } from '#libs/iis/plan-preview';
import { certificate, hostWith, http, https, site1 } from './plan-cases.ts';

function previewOf(host: HostState, options: BindingPlanOptions, ...names: string[]) {
  return describePlan(host, planBindings(host, certificate(...names), options));
}
const view = (thumbprint: string | null, sslFlags: number) => ({ thumbprint, sslFlags, store: 'My' });

describe('the preview of a plan', () => {
  it('shows each binding of a touched site before and after, with the reason', () => {
    const host = hostWith({
      1: [https('*:443:a.example.com', 33, 'X'), https('*:443:b.org', 1, 'X'), http('*:80:c.example.com')],
      2: [https('*:443:d.org', 1, 'X')],
    });
    expect(previewOf(host, site1, '*.example.com')).toEqual([
      {
        ...{ siteId: 1, site: 'site1', protocol: 'https', bindingInformation: '*:443:a.example.com' },
        ...{ before: view('X', 33), after: view('NEW', 33), reason: 'the certificate covers its host' },
      },
      {
        ...{ siteId: 1, site: 'site1', protocol: 'https', bindingInformation: '*:443:b.org' },
        ...{ before: view('X', 1), after: view('X', 1), reason: 'the certificate does not cover its host' },
      },
      {
        ...{ siteId: 1, site: 'site1', protocol: 'https', bindingInformation: '*:443:c.example.com' },
        ...{ before: null, after: view('NEW', 1), reason: 'beside the http binding *:80:c.example.com' },
      },
    ]);
  });

  it('shows a binding of another site that follows because it shares the http.sys record', () => {
    const host = hostWith({
      1: [http('*:80:a.example.com')],
      2: [https('10.0.0.1:443:a.example.com', 5, 'THEIRS'), https('*:443:d.org', 1, 'X')],
    });
    expect(previewOf(host, site1, 'a.example.com').filter(({ siteId }) => siteId === 2)).toEqual([
      expect.objectContaining({
        before: view('THEIRS', 5),
        after: view('NEW', 5),
        reason: 'http.sys keeps one certificate for a.example.com:443, which *:443:a.example.com of site 1 changes',
      }),
      expect.objectContaining({ before: view('X', 1), after: view('X', 1), reason: 'is not in the plan' }),
    ]);
  });

  it('shows the certificate of ftp sites', () => {
    const host = hostWith({ 1: [{ ...http('*:21:ftp.example.com'), protocol: 'ftp' }] });
    const withFtp = { ...host, sites: host.sites.map((one) => ({ ...one, ftp: { thumbprint: 'X', store: 'My' } })) };
    expect(previewOf(withFtp, site1, 'ftp.example.com')).toEqual([
      expect.objectContaining({ protocol: 'ftp', bindingInformation: '', before: view('X', 0), after: view('NEW', 0) }),
    ]);
  });
});
