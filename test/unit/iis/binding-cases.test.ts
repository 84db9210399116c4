import { describe, expect, it } from 'vitest';
import { planBindings } from '#libs/iis/binding-plan';
import { nameCovers } from '#libs/model/domain-name';
import { IisModel } from './iis-model.ts';
import { ftpOf, ownCases } from './own-cases.ts';
import { applyPlan, cases, hostOf, httpsOf, planCase, planCases } from './plan-cases.ts';
import { wanted, wantedOf } from './wanted-bindings.ts';

describe('the cases of Certify and win-acme', () => {
  it.each(planCases.map((one) => [one.id, one] as const))('%s ends with the bindings we want', (id, one) => {
    const host = hostOf(one);
    const plan = planCase(id);
    const after = applyPlan(host.sites, plan.changes);
    const { touched } = one.expected;
    if (touched) expect(plan.changes.map((change) => `${change.siteId}|${change.bindingInformation}`)).toEqual(touched);
    expect(httpsOf(after)).toEqual(wantedOf(one));
  });

  it.each(ownCases.map((one) => [one.id, one] as const))('%s ends with the bindings we want', (_, one) => {
    const plan = planBindings(one.host, { names: one.names, thumbprint: 'NEW' }, one.options);
    const model = new IisModel(one.host);
    model.apply(plan.changes);
    expect(httpsOf(model.read().sites)).toEqual(one.after);
    expect(ftpOf(model.read().sites)).toEqual(one.ftp ?? {});
    const says = [...plan.warnings, ...plan.skipped.map(({ reason }) => reason)].join('\n');
    for (const words of one.says ?? []) expect(says).toContain(words);
  });

  it('names only cases that exist where another outcome is wanted', () => {
    const ids = planCases.map((one) => one.id);
    expect(Object.keys(wanted).filter((id) => !ids.includes(id))).toEqual([]);
  });

  const rows = cases.filter((one) => one.kind === 'match').flatMap((one) => one.rows);
  it.each(rows)('names $names over host "$host": $expected', ({ names, host, expected }) => {
    expect(names.some((name) => nameCovers(name, host))).toBe(expected);
  });
});
