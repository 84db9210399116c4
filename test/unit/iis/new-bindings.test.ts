import { describe, expect, it } from 'vitest';
import { planBindings } from '#libs/iis/binding-plan';
import { certificate, hostWith, http, https, lines, planCase, site1 } from './plan-cases.ts';

describe('new bindings', () => {
  it('are refused where another site has the same address and host', () => {
    const host = hostWith({ 1: [http('*:80:a.example.com')], 2: [https('*:443:A.example.com', 1, 'X')] });
    const plan = planBindings(host, certificate('a.example.com'), site1);
    expect(plan.changes).toEqual([]);
    expect(plan.skipped[0]?.reason).toContain('site 2 already has');
    expect(plan.unbound).toEqual(['a.example.com']);
  });

  it('are made in one of two sites that would get the same', () => {
    const host = hostWith({ 1: [http('*:80:a.example.com')], 2: [http('*:8080:a.example.com')] });
    const plan = planBindings(host, certificate('a.example.com'), { mode: 'auto', store: 'My' });
    expect(lines(plan)).toEqual(['add 1 *:443:a.example.com 1']);
    expect(plan.skipped).toMatchObject([{ siteId: 2, bindingInformation: '*:443:a.example.com' }]);
    host.sites.reverse();
    expect(planBindings(host, certificate('a.example.com'), { mode: 'auto', store: 'My' })).toEqual(plan);
  });

  it('are not put beside an https binding on another port', () => {
    const host = hostWith({ 1: [http('*:80:a.example.com'), https('*:8443:a.example.com', 1, 'X')] });
    expect(lines(planBindings(host, certificate('a.example.com'), site1))).toEqual(['update 1 *:8443:a.example.com 1']);
  });

  it('are not put beside an https binding of the same host in another spelling', () => {
    const host = hostWith({ 1: [http('*:80:münchen.example.com'), https('*:443:XN--MNCHEN-3YA.example.com', 1, 'X')] });
    expect(lines(planBindings(host, certificate('*.example.com'), site1))).toEqual([
      'update 1 *:443:XN--MNCHEN-3YA.example.com 1',
    ]);
  });

  it('without a host name are refused where they would change the certificate of another', () => {
    const host = hostWith({ 1: [http('*:80:')], 2: [https('*:443:b.org', 0, 'X')] });
    const plan = planBindings(host, certificate('a.example.com'), { ...site1, blankHost: true });
    expect(plan.changes).toEqual([]);
    expect(plan.skipped[0]?.reason).toBe('shares 0.0.0.0:443 with a binding that is not in the plan');
  });

  it('have no SNI where that is not wanted, and then keep off an address that another certificate has', () => {
    const one = hostWith({ 1: [http('127.0.0.1:80:a.example.com')] });
    const names = certificate('a.example.com');
    expect(lines(planBindings(one, names, { ...site1, sni: false }))).toEqual(['add 1 127.0.0.1:443:a.example.com 0']);
    const two = hostWith({ 1: [http('*:80:a.example.com')], 2: [https('*:443:b.org', 0, 'X')] });
    const plan = planBindings(two, names, { ...site1, sni: false });
    expect(plan.changes).toEqual([]);
    expect(plan.skipped[0]?.reason).toBe('shares 0.0.0.0:443 with a binding that is not in the plan');
  });

  it('are made for names without any binding only when asked for', () => {
    const host = hostWith({ 1: [http('*:80:a.example.com')] });
    const names = certificate('a.example.com', 'b.example.com', 'B.example.com');
    const plan = planBindings(host, names, site1);
    expect(lines(plan)).toEqual(['add 1 *:443:a.example.com 1']);
    expect(plan.unbound).toEqual(['b.example.com']);
    const more = planBindings(host, names, { ...site1, addMissing: true, port: 8443, ip: 'fe80::1' });
    expect(lines(more)).toEqual(['add 1 [fe80::1]:8443:a.example.com 1', 'add 1 [fe80::1]:8443:b.example.com 1']);
    expect(more.unbound).toEqual([]);
    const auto = planBindings(host, names, { mode: 'auto', store: 'My', addMissing: true });
    expect(lines(auto)).toEqual(['add 1 *:443:a.example.com 1']);
    expect(auto.warnings).toEqual([expect.stringContaining('addMissing is ignored')]);
  });

  it('with a wildcard host need IIS 10', () => {
    const sites = { 1: [http('*:80:*.example.com')] };
    const plan = planBindings(hostWith(sites, 8), certificate('*.example.com'), { ...site1, addMissing: true });
    expect(plan.changes).toEqual([]);
    expect(plan.skipped).toEqual([
      {
        siteId: 1,
        protocol: 'https',
        bindingInformation: '*:443:*.example.com',
        reason: 'IIS 8 has no wildcard host names',
      },
    ]);
    const ten = planBindings(hostWith(sites), certificate('*.example.com'), site1);
    expect(lines(ten)).toEqual(['add 1 *:443:*.example.com 1']);
  });

  it('on IIS 7 keep the IP of the http binding and use no SNI', () => {
    const host = hostWith({ 1: [http('10.0.0.5:80:a.example.com')] }, 7);
    expect(lines(planBindings(host, certificate('a.example.com'), site1))).toEqual([
      'add 1 10.0.0.5:443:a.example.com 0',
    ]);
  });

  it('are not made in a stopped site unless it was chosen', () => {
    const host = hostWith({ 1: [http('*:80:a.example.com')] });
    const stopped = { ...host, sites: host.sites.map((site) => ({ ...site, state: 'Stopped' as const })) };
    for (const mode of ['auto', 'all'] as const) {
      expect(planBindings(stopped, certificate('a.example.com'), { mode, store: 'My' }).changes).toEqual([]);
    }
    expect(planBindings(stopped, certificate('a.example.com'), site1).changes).toHaveLength(1);
  });

  it('are not made for blank hosts in mode auto, whatever the option says', () => {
    const host = hostWith({ 1: [http('*:80:'), https('*:444:', 0, 'X')] });
    const options = { store: 'My', blankHost: true };
    const auto = planBindings(host, certificate('a.example.com'), { ...options, mode: 'auto' });
    expect(auto.changes).toEqual([]);
    expect(auto.warnings).toEqual([expect.stringContaining('blankHost is ignored')]);
    const all = planBindings(host, certificate('a.example.com'), { ...options, mode: 'all' });
    expect(lines(all)).toEqual(['update 1 *:444: 0']);
  });
});

describe('warnings', () => {
  it('tell of a site that is not started', () => {
    expect(planCase('ct-stopped-site-single').warnings).toEqual([
      'site 1 is not started: its bindings are set, but nothing answers on them yet',
    ]);
  });

  it('tell of a binding outside the plan that shares the http.sys record', () => {
    const host = hostWith({
      1: [https('*:443:a.example.com', 1, 'X')],
      2: [https('10.0.0.1:443:a.example.com', 1, 'X')],
    });
    const plan = planBindings(host, certificate('a.example.com'), site1);
    expect(lines(plan)).toEqual(['update 1 *:443:a.example.com 1']);
    expect(plan.shared).toEqual([{ record: 'a.example.com:443', siteIds: [1, 2] }]);
    expect(plan.warnings).toEqual([
      'http.sys keeps one certificate for a.example.com:443: 10.0.0.1:443:a.example.com of site 2 gets the new one too',
    ]);
  });

  it('tell of a certificate without SNI on an IP of its own that hides the planned bindings', () => {
    const host = hostWith({ 1: [http('*:80:a.example.com')], 2: [https('10.0.0.1:443:b.org', 0, 'X')] });
    expect(planBindings(host, certificate('a.example.com'), site1).warnings).toEqual([
      '10.0.0.1:443:b.org of site 2 has no SNI: clients of 10.0.0.1:443 get its certificate whatever host they ask for, also instead of *:443:a.example.com of site 1',
    ]);
    expect(planCase('ct-ip-specific-existing').warnings).toEqual([
      expect.stringContaining('127.0.0.1:443: of site 2 has no SNI'),
    ]);
  });

  it('are not made for what the plan has nothing to do with', () => {
    const host = hostWith({
      1: [https('*:8443:a.example.com', 1, 'X')],
      2: [https('10.0.0.1:443:b.org', 0, 'X'), https('*:443:c.org', 1, 'X'), https('*:443:d.org', 0, 'X')],
      3: [https('*:443:e.org', 0, 'X')],
    });
    expect(planBindings(host, certificate('a.example.com'), site1)).toMatchObject({ warnings: [], shared: [] });
  });
});
