import { domainToASCII } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type BindingPlan, planBindings } from '#libs/iis/binding-plan';
import type { HostState } from '#libs/iis/iis-host';
import { describePlan } from '#libs/iis/plan-preview';
import { putBack } from '#libs/iis/put-back';
import { nameCovers } from '#libs/model/domain-name';
import { IisModel, recordKey } from './iis-model.ts';
import { type Draw, drawHost, shuffled } from './random-hosts.ts';

interface Run extends Draw {
  seed: number;
  before: HostState;
  plan: BindingPlan;
  after: HostState;
}

/** Plans and carries out. */
function run(seed: number): Run {
  const draw = drawHost(seed);
  const model = new IisModel(draw.host);
  const before = model.read();
  const plan = planBindings(before, draw.certificate, draw.options);
  model.apply(plan.changes);
  return { ...draw, seed, before, plan, after: model.read() };
}

const runs = Array.from({ length: 400 }, (_, seed) => run(seed));

/** Checks every draw, and says which one it was that failed. */
function forAll(check: (run: Run) => void): void {
  for (const one of runs) {
    try {
      check(one);
    } catch (error) {
      throw new Error(`draw ${one.seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
}

/** Every binding and ftp certificate by its place. */
function placesOf(state: HostState) {
  const entries = state.sites.flatMap((site) => [
    ...site.bindings.map((one) => ({ ...one, siteId: site.id, site })),
    ...(site.ftp ? [{ protocol: 'ftp', bindingInformation: '', sslFlags: 0, ...site.ftp, siteId: site.id, site }] : []),
  ]);
  return new Map(entries.map((one) => [`${one.siteId} ${one.protocol} ${one.bindingInformation}`, one]));
}

describe('on any host', () => {
  it('the draws are of every kind', () => {
    const seen: Record<string, number> = {};
    const count = (what: string) => {
      seen[what] = (seen[what] ?? 0) + 1;
    };
    forAll(({ plan, options }) => {
      for (const { op, protocol, expect: was, sslFlags } of plan.changes) {
        count(`${op} ${protocol}`);
        if (was && was.sslFlags !== sslFlags) count('SNI switched on');
      }
      if (plan.shared.length > 0) count('shared');
      if (plan.changes.length > 1) count(`several in ${options.mode}`);
      if (plan.skipped.some(({ reason }) => reason.includes('not ours'))) count('not ours');
    });
    for (const what of ['add https', 'update https', 'update ftp', 'SNI switched on', 'shared', 'not ours']) {
      expect(seen[what], what).toBeGreaterThan(2);
    }
  });

  it('what is not in the plan keeps its flags, and its certificate too unless a warning names it', () => {
    forAll(({ before, after, plan, options }) => {
      const changed = new Set(plan.changes.map((one) => `${one.siteId} ${one.protocol} ${one.bindingInformation}`));
      const was = placesOf(before);
      const is = placesOf(after);
      expect([...is.keys()].filter((key) => !was.has(key) && !changed.has(key))).toEqual([]);
      for (const [key, one] of was) {
        if (changed.has(key)) continue;
        expect(is.get(key)?.sslFlags, key).toBe(one.sslFlags);
        if (is.get(key)?.thumbprint === one.thumbprint) continue;
        expect(plan.warnings.join('\n'), key).toContain(`${one.bindingInformation} of site ${one.siteId} gets the new`);
        expect(plan.shared.map(({ record }) => record)).toContain(recordKey(one));
        if (options.replace === 'ours') expect([null, 'OURS', 'OLD', 'NEW']).toContain(one.thumbprint);
      }
    });
  });

  it('what is in the plan serves the certificate, for a host it covers or none, with its own flags or SNI besides', () => {
    forAll(({ before, after, plan, certificate, options }) => {
      const was = placesOf(before);
      const is = placesOf(after);
      for (const { siteId, protocol, bindingInformation, expect: had, sslFlags } of plan.changes) {
        const key = `${siteId} ${protocol} ${bindingInformation}`;
        expect(is.get(key)?.thumbprint, key).toBe('NEW');
        const chosen = options.mode === 'site' ? siteId === options.site : is.get(key)?.site.state === 'Started';
        if (!chosen) expect(had?.thumbprint, key).toBe('OLD');
        if (options.mode === 'store' || options.updateOnly) expect(had, key).not.toBeNull();
        if (had) expect(sslFlags & ~1, key).toBe(had.sslFlags & ~1);
        if (had) expect(sslFlags & 1, key).toBeGreaterThanOrEqual(had.sslFlags & 1);
        expect((had?.sslFlags ?? 0) & 2, key).toBe(0);
        if (options.replace === 'ours') expect([undefined, null, 'OURS', 'OLD', 'NEW']).toContain(had?.thumbprint);
        expect(was.has(key)).toBe(had !== null);
        if (protocol === 'ftp') continue;
        const host = bindingInformation.slice(bindingInformation.lastIndexOf(':') + 1);
        const covered = certificate.names.some((name) => nameCovers(name, host));
        const blankAllowed =
          host === '' && (had?.thumbprint === 'OLD' || (options.blankHost && options.mode !== 'auto'));
        expect(covered || blankAllowed, key).toBe(true);
      }
      if (options.mode === 'store') expect(plan.changes).toEqual([]);
    });
  });

  it('no binding is added at an address and host that any site has already', () => {
    const addressOf = (bindingInformation: string) => {
      const [, ip, port, host] = /^(.*):(\d+):([^:]*)$/.exec(bindingInformation) ?? [];
      const any = ['', '*', '0.0.0.0'].includes(ip ?? '');
      return `${any ? '*' : ip?.toLowerCase()} ${port} ${host?.replace(/[^*.]+/g, (part) => domainToASCII(part))}`;
    };
    forAll(({ before, plan }) => {
      const https = before.sites.flatMap(({ bindings }) => bindings).filter(({ protocol }) => protocol === 'https');
      const taken = new Set(https.map(({ bindingInformation }) => addressOf(bindingInformation)));
      for (const { bindingInformation } of plan.changes.filter(({ op }) => op === 'add')) {
        expect(taken).not.toContain(addressOf(bindingInformation));
        taken.add(addressOf(bindingInformation));
      }
    });
  });

  it('a plan that was carried out leaves nothing to do', () => {
    forAll(({ after, certificate, options }) => {
      expect(planBindings(after, certificate, options).changes).toEqual([]);
    });
  });

  it('putting back after it gives the host and the http.sys table as they were', () => {
    forAll(({ before, after, plan }) => {
      const model = new IisModel(after);
      model.apply(putBack(before, after, plan.changes));
      expect(model.read()).toEqual(before);
      expect(model.records()).toEqual(new IisModel(before).records());
    });
  });

  it('the plan and its hash do not depend on the order of sites and bindings', () => {
    forAll(({ seed, host, certificate, options }) => {
      expect(planBindings(shuffled(host, seed), certificate, options)).toEqual(
        planBindings(host, certificate, options),
      );
    });
  });

  it('the preview before the certificate is there has the hash of the plan after', () => {
    forAll(({ host, certificate, options }) => {
      const text = JSON.stringify(host).replaceAll('"NEW"', '"THEIRS"');
      const fresh: HostState = JSON.parse(text);
      const preview = planBindings(fresh, { ...certificate, thumbprint: '0'.repeat(40) }, options);
      expect(preview.hash).toBe(planBindings(fresh, certificate, options).hash);
    });
  });

  it('the preview shows what the host has before and after', () => {
    forAll(({ before, after, plan }) => {
      const rows = describePlan(before, plan);
      const is = placesOf(after);
      const shown = new Set(rows.map((row) => `${row.siteId} ${row.protocol} ${row.bindingInformation}`));
      for (const row of rows) {
        const one = is.get(`${row.siteId} ${row.protocol} ${row.bindingInformation}`);
        expect(row.reason).not.toBe('');
        expect(row.site).toBe(one?.site.name);
        expect(row.after).toEqual({ thumbprint: one?.thumbprint, store: one?.store, sslFlags: one?.sslFlags });
      }
      for (const [key, one] of placesOf(before)) {
        if (!shown.has(key)) expect(is.get(key)).toMatchObject({ thumbprint: one.thumbprint, sslFlags: one.sslFlags });
      }
    });
  });
});
