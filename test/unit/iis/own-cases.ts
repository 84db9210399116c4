import type { BindingPlanOptions } from '#libs/iis/binding-plan';
import type { Binding, HostState, Site } from '#libs/iis/iis-host';
import { hostWith, http, https, site1 } from './plan-cases.ts';

/** A case that is not among those of Certify and win-acme. */
export interface OwnCase {
  id: string;
  host: HostState;
  names: string[];
  options: BindingPlanOptions;
  /** The https bindings of every site afterwards, as lines. */
  after: Record<number, string[]>;
  /** The ftp certificates afterwards; of sites with ftp bindings. */
  ftp?: Record<number, string | null>;
  /** Words that a warning or the reason of a skipped binding holds. */
  says?: string[];
}

const auto: BindingPlanOptions = { mode: 'auto', store: 'My' };
const all: BindingPlanOptions = { mode: 'all', store: 'My' };
const ours: BindingPlanOptions = { ...site1, replace: 'ours', ours: new Set(['OURS']) };
const ftp = (bindingInformation: string): Binding => ({ ...http(bindingInformation), protocol: 'ftp' });

/** The host with other sites, by id. */
function withSites(host: HostState, more: Record<number, Partial<Site>>): HostState {
  return { ...host, sites: host.sites.map((site) => ({ ...site, ...more[site.id] })) };
}
const ftpWith = (thumbprint: string | null): Partial<Site> => ({
  ftp: { thumbprint, store: thumbprint === null ? null : 'My' },
});

/** The thumbprints of ftp certificates, by site. */
export function ftpOf(sites: readonly Site[]): Record<number, string | null> {
  return Object.fromEntries(sites.flatMap((site) => (site.ftp ? [[site.id, site.ftp.thumbprint]] : [])));
}

export const ownCases: OwnCase[] = [
  {
    id: 'own-ipv6-kept',
    host: hostWith({ 1: [https('[fe80::1]:443:a.example.com', 0, 'OLD'), http('[fe80::1]:80:b.example.com')] }),
    names: ['a.example.com', 'b.example.com'],
    options: site1,
    after: { 1: ['*:443:b.example.com flags 1 NEW in My', '[fe80::1]:443:a.example.com flags 0 NEW in My'] },
    says: ['[fe80::1]:443:a.example.com of site 1 has no SNI'],
  },
  {
    id: 'own-ip-left-out',
    host: hostWith({ 1: [http(':80:a.example.com')] }),
    names: ['a.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 1 NEW in My'] },
  },
  {
    id: 'own-idn-in-unicode',
    host: hostWith({ 1: [http('*:80:münchen.example.com')], 2: [https('*:443:straße.example.com', 1, 'OLD')] }),
    names: ['xn--mnchen-3ya.example.com', 'xn--strae-oqa.example.com'],
    options: { ...site1, oldThumbprint: 'OLD' },
    after: {
      1: ['*:443:münchen.example.com flags 1 NEW in My'],
      2: ['*:443:straße.example.com flags 1 NEW in My'],
    },
  },
  {
    id: 'own-two-sites-share-ip-port',
    host: hostWith({ 1: [https('*:443:a.example.com', 0, 'X')], 2: [https('*:443:b.example.com', 0, 'X')] }),
    names: ['a.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 1 NEW in My'], 2: ['*:443:b.example.com flags 0 X in My'] },
  },
  {
    id: 'own-two-sites-share-ip-port-and-both-are-meant',
    host: hostWith({ 1: [https('*:443:a.example.com', 0, 'X')], 2: [https('*:443:b.example.com', 0, 'X')] }),
    names: ['*.example.com'],
    options: all,
    after: { 1: ['*:443:a.example.com flags 0 NEW in My'], 2: ['*:443:b.example.com flags 0 NEW in My'] },
  },
  {
    id: 'own-other-ip-shares-the-sni-record',
    host: hostWith({ 1: [https('*:443:a.example.com', 1, 'X')], 2: [https('10.0.0.1:443:a.example.com', 1, 'X')] }),
    names: ['a.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 1 NEW in My'], 2: ['10.0.0.1:443:a.example.com flags 1 NEW in My'] },
    says: ['10.0.0.1:443:a.example.com of site 2 gets the new one too'],
  },
  {
    id: 'own-new-binding-shares-the-sni-record',
    host: hostWith({ 1: [http('*:80:a.example.com')], 2: [https('10.0.0.1:443:a.example.com', 1, 'THEIRS')] }),
    names: ['a.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 1 NEW in My'], 2: ['10.0.0.1:443:a.example.com flags 1 NEW in My'] },
    says: ['10.0.0.1:443:a.example.com of site 2 gets the new one too'],
  },
  {
    id: 'own-central-store',
    host: hostWith({
      1: [http('*:80:a.example.com'), https('*:443:a.example.com', 3, null), https('*:8443:a.example.com', 2, null)],
    }),
    names: ['a.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 3 null in null', '*:8443:a.example.com flags 2 null in null'] },
    says: ['takes its certificate from the central certificate store'],
  },
  {
    id: 'own-flags-kept',
    host: hostWith({
      1: [https('*:443:a.example.com', 33, 'OLD'), https('*:8443:a.example.com', 37, 'OLD')],
    }),
    names: ['a.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 33 NEW in My', '*:8443:a.example.com flags 37 NEW in My'] },
  },
  {
    id: 'own-new-binding-on-8443',
    host: hostWith({ 1: [http('*:80:a.example.com'), https('*:443:b.example.com', 1, 'X')] }),
    names: ['a.example.com'],
    options: { ...site1, port: 8443, ip: '10.0.0.1' },
    after: { 1: ['*:443:b.example.com flags 1 X in My', '10.0.0.1:8443:a.example.com flags 1 NEW in My'] },
  },
  {
    id: 'own-auto-leaves-stopped-sites',
    host: withSites(
      hostWith({
        1: [https('*:443:a.example.com', 1, 'X')],
        2: [https('*:443:b.example.com', 1, 'X')],
        3: [https('*:443:c.example.com', 1, 'OLD')],
      }),
      { 2: { state: 'Stopped' }, 3: { state: 'Stopped' } },
    ),
    names: ['*.example.com'],
    options: { ...auto, oldThumbprint: 'OLD' },
    after: {
      1: ['*:443:a.example.com flags 1 NEW in My'],
      2: ['*:443:b.example.com flags 1 X in My'],
      3: ['*:443:c.example.com flags 1 NEW in My'],
    },
    says: [
      'its site is not started: mode auto leaves it out',
      'site 2 is not started: mode auto leaves it out, though the certificate covers b.example.com',
      'site 3 is not started: its bindings are set',
    ],
  },
  {
    id: 'own-ftp-host-covered',
    host: withSites(hostWith({ 1: [ftp('*:21:ftp.example.com'), ftp('*:990:ftp.other.org')] }), { 1: ftpWith('X') }),
    names: ['*.example.com'],
    options: site1,
    after: { 1: [] },
    ftp: { 1: 'NEW' },
    says: ['ftp.other.org gets the new one too, which does not cover it'],
  },
  {
    id: 'own-ftp-follows-the-old-certificate',
    host: withSites(
      hostWith({
        1: [https('*:443:a.example.com', 1, 'OLD'), ftp('*:21:')],
        2: [ftp('*:21:')],
        3: [ftp('*:2121:')],
        4: [ftp('*:21:ftp.other.org')],
      }),
      { 1: ftpWith(null), 2: ftpWith('OLD'), 3: ftpWith('X'), 4: ftpWith('OLD') },
    ),
    names: ['a.example.com'],
    options: { ...site1, oldThumbprint: 'OLD' },
    after: { 1: ['*:443:a.example.com flags 1 NEW in My'], 2: [], 3: [], 4: [] },
    ftp: { 1: null, 2: 'NEW', 3: 'X', 4: 'OLD' },
    says: ['ftp of site 4 stays on the old certificate OLD', 'its ftp bindings have no host name: only with blankHost'],
  },
  {
    id: 'own-replace-ours',
    host: hostWith({
      1: [
        https('*:443:a.example.com', 1, 'OURS'),
        https('*:443:b.example.com', 1, 'THEIRS'),
        https('*:443:c.example.com', 1, null),
        http('*:80:d.example.com'),
      ],
    }),
    names: ['*.example.com'],
    options: ours,
    after: {
      1: [
        '*:443:a.example.com flags 1 NEW in My',
        '*:443:b.example.com flags 1 THEIRS in My',
        '*:443:c.example.com flags 1 NEW in My',
        '*:443:d.example.com flags 1 NEW in My',
      ],
    },
    says: ['carries the certificate THEIRS, which is not ours'],
  },
  {
    id: 'own-replace-ours-leaves-shared-records',
    host: hostWith({
      1: [http('*:80:a.example.com'), https('*:443:b.example.com', 0, 'OURS')],
      2: [https('10.0.0.1:443:a.example.com', 1, 'THEIRS'), https('10.0.0.1:443:b.example.com', 1, 'THEIRS')],
      3: [https('*:443:', 0, 'OURS')],
    }),
    names: ['a.example.com', 'b.example.com'],
    options: ours,
    after: {
      1: ['*:443:b.example.com flags 0 OURS in My'],
      2: ['10.0.0.1:443:a.example.com flags 1 THEIRS in My', '10.0.0.1:443:b.example.com flags 1 THEIRS in My'],
      3: ['*:443: flags 0 OURS in My'],
    },
    says: ['would change a.example.com:443, which site 2 uses', 'would change b.example.com:443, which site 2 uses'],
  },
  {
    id: 'own-wildcard-host-on-iis-8',
    host: hostWith({ 1: [http('*:80:*.example.com'), http('*:80:a.example.com')] }, 8),
    names: ['*.example.com'],
    options: site1,
    after: { 1: ['*:443:a.example.com flags 1 NEW in My'] },
    says: ['IIS 8 has no wildcard host names'],
  },
  {
    id: 'own-wildcard-host-on-iis-10',
    host: hostWith({
      1: [http('*:80:*.example.com'), http('*:80:a.b.example.com'), https('*:443:example.com', 1, 'X')],
    }),
    names: ['*.example.com'],
    options: site1,
    after: { 1: ['*:443:*.example.com flags 1 NEW in My', '*:443:example.com flags 1 X in My'] },
  },
  {
    id: 'own-upper-case-host',
    host: hostWith({ 1: [https('*:443:WWW.Example.COM', 1, 'OLD'), http('*:80:www.example.com'), http('*:80:B.IO')] }),
    names: ['www.example.com', 'b.io'],
    options: site1,
    after: { 1: ['*:443:B.IO flags 1 NEW in My', '*:443:WWW.Example.COM flags 1 NEW in My'] },
  },
  {
    id: 'own-iis-7-one-ip-each',
    host: hostWith(
      { 1: [https('10.0.0.1:443:', 0, 'OLD')], 2: [https('10.0.0.2:443:', 0, 'X')], 3: [http('10.0.0.3:80:c.io')] },
      7,
    ),
    names: ['a.io', 'c.io'],
    options: { ...all, oldThumbprint: 'OLD' },
    after: {
      1: ['10.0.0.1:443: flags 0 NEW in My'],
      2: ['10.0.0.2:443: flags 0 X in My'],
      3: ['10.0.0.3:443:c.io flags 0 NEW in My'],
    },
    says: ['IIS 7 has no SNI'],
  },
  {
    id: 'own-server-2016-web-hosting',
    host: { ...hostWith({ 1: [https('*:443:a.example.com', 5, null)] }), osBuild: 14_393 },
    names: ['a.example.com'],
    options: { ...site1, store: 'WebHosting' },
    after: { 1: ['*:443:a.example.com flags 5 NEW in WebHosting'] },
    says: ['Windows build 14393 (Server 2016 or older) cannot read a PFX encrypted with AES'],
  },
  {
    id: 'own-update-only',
    host: hostWith({ 1: [http('*:80:a.example.com'), https('*:443:b.example.com', 1, 'X')] }),
    names: ['*.example.com'],
    options: { ...site1, updateOnly: true, addMissing: true },
    after: { 1: ['*:443:b.example.com flags 1 NEW in My'] },
    says: ['is not there, and only existing bindings are updated'],
  },
  {
    id: 'own-new-binding-on-an-http-port',
    host: hostWith({ 1: [http('*:8080:a.example.com')] }),
    names: ['a.example.com'],
    options: { ...site1, port: 8080, ip: '10.0.0.1' },
    after: { 1: ['10.0.0.1:8080:a.example.com flags 1 NEW in My'] },
    says: ['a port serves either http or https'],
  },
];
