import { httpsLine, httpsOf, type PlanCase, toBinding } from './plan-cases.ts';

/** Where we want another outcome than the tool that the case was taken from. */
export const wanted: Record<string, Record<string, string[]>> = {
  // One binding on all addresses with SNI, not one per IP: IP-specific https bindings are the main cause of wrong certificates.
  'wa-add-per-http-ip': { 1: ['*:443:httponly.example.com flags 1 NEW in My'] },
  // The certificate does not cover the wildcard host.
  'wa-wildcard-binding-covers-names': { 1: [] },
  // IIS 8 has no wildcard host names.
  'wa-wildcard-old-iis8': { 1: [] },
  // The SNI bit of an existing binding stays as it is.
  'wa-flags-sni-added': { 1: ['1.1.1.1:1234:host.nl flags 36 NEW in My'] },
  // Not covered: left and warned of. No binding for a name that has none, unless addMissing.
  'wa-old-thumbprint-not-covered': {
    1: ['*:443:inscope.example.com flags 1 OLD in My'],
    2: ['*:443:outofscope.example.com flags 1 OLD in My'],
  },
  // A name without a binding is reported, not bound.
  'wa-pyramid-5': { 1: [] },
  // Skipped: the other binding on 0.0.0.0:443 is not in the plan.
  'wa-sni-trap-blank-target': {
    1: ['*:443:snitrap.example.com flags 0 OLD in My'],
    2: ['*:443: flags 0 OLD in My'],
  },
  // Nothing is bound with the central certificate store.
  'wa-ccs-blank-http': { 1: [] },
  // Without SNI there is one https binding per ip:port, and another site has it.
  'wa-iis7-one-per-ip-port': { 1: ['*:443:exists.example.com flags 0 OLD in My'], 2: [] },
  // The old certificate is replaced in the other site too.
  'wa-two-ports-two-sites': {
    1: ['*:8080:wacs1.test.net flags 0 NEW in My'],
    2: ['*:444:wacs1.test.net flags 1 NEW in My'],
  },
  // Blank hosts follow because they carry the certificate that is replaced.
  'wa-ipv4-and-ipv6-blank': { 1: ['*:443: flags 0 NEW in My', '[fe80::1]:443: flags 0 NEW in My'] },
  // As the tool does; the warning has a test of its own.
  'ct-ip-specific-existing': {
    2: [
      '*:443:ipspecific2.test.com flags 1 NEW in WebHosting',
      '*:443:nonipspecific.test.com flags 1 NEW in WebHosting',
      '*:443:nonipspecific2.test.com flags 1 NEW in WebHosting',
      '*:443:nonipspecific3.test.com flags 0 NEW in WebHosting',
      '127.0.0.1:443: flags 0 NEW in WebHosting',
      '127.0.0.1:443:ipspecific.test.com flags 1 NEW in WebHosting',
    ],
  },
  // The new certificate does not name the host: the binding keeps the old one.
  'ct-previous-thumbprint': {
    1: ['*:443:unrelated.org flags 1 OLD in My'],
    2: ['*:443:else.org flags 1 OTHER in My'],
  },
  // blankHost is on in this case.
  'ct-blank-and-nested': {
    1: [
      '*:443: flags 0 NEW in My',
      '*:443:label1.t.example.org flags 1 NEW in My',
      '*:443:t.example.org flags 1 NEW in My',
    ],
  },
  // A person chose the site: it is deployed to, with a warning.
  'ct-stopped-site-single': { 1: ['*:443:a.example.com flags 1 NEW in My'] },
  // SNI is switched on, so that the other site keeps its certificate.
  'x-non-sni-same-ip-port': {
    1: ['*:443:a.example.com flags 0 OTHER in My'],
    2: ['*:443:b.example.com flags 1 NEW in My'],
  },
  'x-case-certificate-upper': { 1: ['*:443:www.example.com flags 1 NEW in My'] },
  // Hosts are compared in punycode; the stored spelling stays.
  'x-idn-old-thumbprint': {
    1: ['*:443:a.example.com flags 1 NEW in My'],
    2: ['*:443:münchen.example.com flags 1 NEW in My'],
  },
};

/** The https bindings that each site is to have after a case, as lines, by site. */
export function wantedOf(one: PlanCase): Record<string, string[]> {
  const { final, touched } = one.expected;
  const explicit = wanted[one.id];
  if (explicit) return explicit;
  if (final) {
    const sites = Object.entries(final).map(([siteId, bindings]): [string, string[]] => [
      siteId,
      bindings.map((binding) => httpsLine(toBinding(binding))).sort(),
    ]);
    return Object.fromEntries(sites);
  }
  const after = one.sites.map((site) => ({
    ...site,
    ftp: null,
    bindings: site.bindings.map(toBinding).map((binding) => {
      const isTouched = touched?.includes(`${site.id}|${binding.bindingInformation}`) && binding.protocol === 'https';
      return isTouched ? { ...binding, thumbprint: 'NEW', store: one.request.store ?? 'My' } : binding;
    }),
  }));
  return httpsOf(after);
}
