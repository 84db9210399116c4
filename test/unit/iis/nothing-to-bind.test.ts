import { describe, expect, it } from 'vitest';
import { planDeployment } from '#libs/iis/deployment-plan';
import type { HostState } from '#libs/iis/iis-host';
import type { TargetDeploy } from '#libs/model/order';
import { certificate, hostWith, http, https } from './plan-cases.ts';

const planned = certificate('www.example.com');
const site2 = { mode: 'site', target: 'tgt_1', site: 2 } as const;

/** The words of the refusal. */
function refusalOf(host: HostState, deploy: TargetDeploy): string {
  try {
    planDeployment(host, planned, deploy);
  } catch (error) {
    expect(error).toMatchObject({ code: 'nothing_to_bind' });
    return error instanceof Error ? error.message : '';
  }
  throw new Error('something was planned');
}

describe('a deployment with nothing to bind', () => {
  const taken = hostWith({
    1: [https('*:443:www.example.com', 1, planned.thumbprint)],
    2: [http('*:80:blog.example.org'), https('*:443:', 0, 'X')],
  });

  it('names the site that has the name already, whatever port is asked for', () => {
    for (const more of [{}, { port: 8443 }, { ip: '192.0.2.1' }]) {
      const words = refusalOf(taken, { ...site2, addMissing: true, ...more });
      expect(words).toContain(
        '(www.example.com: site 1 has an https binding for it already (*:443:www.example.com, with this certificate); ',
      );
      expect(words).toMatch(/: deploy to site 1, or take the name away there first, or use `blankHost`$/);
      expect(words).not.toContain('`addMissing`');
    }
  });

  it('tells bindings that are not there from those that are, and writes one without a host name plainly', () => {
    const words = refusalOf(taken, { ...site2, addMissing: true });
    expect(words).toContain('*:443:blog.example.org (would be new): the certificate does not cover its host');
    expect(words).toContain('; *:443: has no host name: only with blankHost');
    expect(words).not.toContain('::');
  });

  it('offers options only where they would help', () => {
    const empty = hostWith({ 1: [http('*:80:a.example.net')], 2: [http('*:80:b.example.net')] });
    expect(refusalOf(empty, site2)).toMatch(
      /www\.example\.com: site 2 has no binding with this host name.*: add an http binding with the name to site 2, or use `addMissing`$/,
    );
    expect(refusalOf(empty, { ...site2, updateOnly: true })).toMatch(/\): give `addMissing` instead of `updateOnly`$/);
    expect(refusalOf(empty, { mode: 'auto', target: 'tgt_1' })).toMatch(
      /www\.example\.com: no started site has a binding with this host name\): add a binding .* or name a site with `addMissing`$/,
    );
  });

  it('says to leave out what holds it back', () => {
    const plain = hostWith({ 2: [http('*:80:www.example.com')] });
    expect(refusalOf(plain, { ...site2, updateOnly: true })).toMatch(
      /\(\*:443:www\.example\.com \(would be new\): is not there, .*\): leave out `updateOnly`$/,
    );
    const foreign = hostWith({ 2: [https('*:443:www.example.com', 1, 'X')] });
    expect(refusalOf(foreign, { ...site2, replace: 'ours' })).toMatch(/: leave out `replace`$/);
  });

  it('counts the reasons that it does not name', () => {
    const hosts = Array.from({ length: 7 }, (_, at) => http(`*:80:h${at}.example.net`));
    expect(refusalOf(hostWith({ 2: hosts }), site2)).toContain('; and 3 more)');
  });
});
