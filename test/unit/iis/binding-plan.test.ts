import { describe, expect, it } from 'vitest';
import { type BindingPlanOptions, hashChanges, planBindings } from '#libs/iis/binding-plan';
import { applyPlan, certificate, hostWith, http, https, lines, planCase, planCases, site1 } from './plan-cases.ts';

describe('a plan', () => {
  const host = hostWith({
    2: [http('*:80:b.example.com'), https('*:443:a.example.com', 1, 'OLD')],
    10: [https('*:8443:c.example.com', 1, 'OLD'), http('*:80:c.example.com'), http('*:80:d.example.com')],
  });
  const options: BindingPlanOptions = { mode: 'auto', store: 'My' };

  it('is the same however the host lists its sites and bindings', () => {
    const turned = structuredClone(host);
    turned.sites.reverse();
    for (const site of turned.sites) site.bindings.reverse();
    const plan = planBindings(host, certificate('*.example.com'), options);
    expect(planBindings(turned, certificate('*.example.com'), options)).toEqual(plan);
    expect(lines(plan)).toEqual([
      'update 2 *:443:a.example.com 1',
      'update 10 *:8443:c.example.com 1',
      'add 2 *:443:b.example.com 1',
      'add 10 *:443:d.example.com 1',
    ]);
  });

  it('has a hash of what is done, not of how it is explained', () => {
    const plan = planBindings(host, certificate('*.example.com'), options);
    expect(plan.hash).toMatch(/^[0-9a-f]{64}$/);
    const same = plan.changes.map((one) => ({ ...one, reason: 'other words' }));
    expect(hashChanges(same, 'NEW')).toBe(plan.hash);
    const [first, ...rest] = plan.changes;
    if (!first) throw new Error('the plan is empty');
    for (const other of [{ sslFlags: 33 }, { thumbprint: 'X' }, { siteId: 3 }, { expect: null }, { store: 'Web' }]) {
      expect(hashChanges([{ ...first, ...other }, ...rest], 'NEW')).not.toBe(plan.hash);
    }
  });

  it('has the same hash before the certificate is issued and after, for one host in one state', () => {
    const unknown = { names: ['*.example.com'], thumbprint: '0'.repeat(40) };
    const { hash } = planBindings(host, certificate('*.example.com'), options);
    expect(planBindings(host, unknown, options).hash).toBe(hash);
    const changed = structuredClone(host);
    const binding = changed.sites[0]?.bindings[1];
    if (!binding) throw new Error('no binding');
    binding.thumbprint = 'SOMEBODY ELSE';
    expect(planBindings(changed, unknown, options).hash).not.toBe(hash);
    expect(planBindings(host, unknown, { ...options, store: 'WebHosting' }).hash).not.toBe(hash);
  });

  it('does not touch what it was made from', () => {
    const before = structuredClone(host);
    planBindings(host, certificate('*.example.com'), options);
    expect(host).toEqual(before);
  });

  it('has no changes once it was carried out', () => {
    const first = planBindings(host, certificate('*.example.com'), options);
    const sites = applyPlan(host.sites, first.changes);
    const second = planBindings({ ...host, sites }, certificate('*.example.com'), options);
    expect(second.changes).toEqual([]);
    expect(second.unbound).toEqual([]);
    expect(second.skipped.map((one) => one.reason)).toEqual(Array(4).fill('already has this certificate'));
  });

  it('gives every change and every skipped binding a reason', () => {
    for (const one of planCases) {
      const plan = planCase(one.id);
      for (const { reason } of [...plan.changes, ...plan.skipped]) expect(reason).not.toBe('');
    }
  });

  it('binds nothing in mode store and misses nothing', () => {
    const plan = planBindings(host, certificate('a.example.com'), { mode: 'store', store: 'My', oldThumbprint: 'OLD' });
    expect(plan).toMatchObject({ changes: [], skipped: [], unbound: [] });
  });

  it('refuses a site that is not there', () => {
    expect(() => planBindings(host, certificate('a.example.com'), { ...site1, site: 99 })).toThrow(
      expect.objectContaining({ code: 'site_not_found' }),
    );
  });
});

describe('existing bindings', () => {
  it('keep their flags and address', () => {
    const host = hostWith({ 1: [https('[fe80::1]:8443:A.example.com', 1 | 4 | 32, 'X')] });
    const plan = planBindings(host, certificate('a.example.com'), { ...site1, ip: '10.0.0.1', port: 9999 });
    expect(lines(plan)).toEqual(['update 1 [fe80::1]:8443:A.example.com 37']);
  });

  it('are rewritten when only the store differs', () => {
    const host = hostWith({ 1: [https('*:443:a.example.com', 1, 'NEW')] });
    const plan = planBindings(host, certificate('a.example.com'), { ...site1, store: 'WebHosting' });
    expect(lines(plan)).toEqual(['update 1 *:443:a.example.com 1']);
    expect(planBindings(host, certificate('a.example.com'), { ...site1, store: 'MY' }).changes).toEqual([]);
  });

  it('stay on the old certificate with a warning when the new one does not cover them', () => {
    const plan = planCase('ct-previous-thumbprint');
    expect(plan.warnings).toEqual([expect.stringContaining('*:443:unrelated.org of site 1 stays on the old')]);
    expect(plan.unbound).toEqual(['test.com']);
  });

  it('of the central certificate store are skipped, and no other is put beside them', () => {
    const host = hostWith({ 1: [https('*:443:a.example.com', 3, null), http('*:80:a.example.com')] });
    const plan = planBindings(host, certificate('a.example.com'), site1);
    expect(plan.changes).toEqual([]);
    expect(plan.skipped).toEqual([
      {
        siteId: 1,
        protocol: 'https',
        bindingInformation: '*:443:a.example.com',
        reason: expect.stringContaining('central'),
      },
    ]);
  });

  it('without SNI move together when all that share the ip:port are meant', () => {
    const host = hostWith({
      1: [https('*:443:a.example.com', 0, 'X')],
      2: [https('*:443:b.example.com', 0, 'X')],
    });
    const plan = planBindings(host, certificate('*.example.com'), { mode: 'all', store: 'My' });
    expect(lines(plan)).toEqual(['update 1 *:443:a.example.com 0', 'update 2 *:443:b.example.com 0']);
    expect(plan.shared).toEqual([{ record: '0.0.0.0:443', siteIds: [1, 2] }]);
    expect(plan.warnings).toEqual([]);
  });

  it('without SNI on different addresses do not disturb each other', () => {
    const host = hostWith({
      1: [https('10.0.0.1:443:a.example.com', 0, 'X')],
      2: [https('10.0.0.2:443:other.org', 0, 'X')],
    });
    const plan = planBindings(host, certificate('a.example.com'), site1);
    expect(lines(plan)).toEqual(['update 1 10.0.0.1:443:a.example.com 0']);
    expect(plan.warnings).toEqual([]);
  });

  it('without a host name are left when they share the ip:port with one that stays', () => {
    const plan = planCase('wa-sni-trap-blank-target', { blankHost: true });
    expect(plan.changes).toEqual([]);
    expect(plan.skipped).toEqual([
      {
        siteId: 2,
        protocol: 'https',
        bindingInformation: '*:443:',
        reason: 'shares 0.0.0.0:443 with a binding that is not in the plan',
      },
    ]);
  });

  it('on IIS 7 are left when they share the ip:port with one that stays', () => {
    const host = hostWith({ 1: [https('*:443:a.example.com', 0, 'X')], 2: [https('*:443:b.org', 0, 'X')] }, 7);
    const plan = planBindings(host, certificate('a.example.com'), site1);
    expect(plan.changes).toEqual([]);
    expect(plan.skipped[0]?.reason).toContain('shares 0.0.0.0:443');
  });
});
