import type { BindingPlanOptions, PlannedCertificate } from '#libs/iis/binding-plan';
import type { Binding, HostState, Site } from '#libs/iis/iis-host';
import { recordKey } from './iis-model.ts';

/** A host, a certificate and options drawn from a seed. */
export interface Draw {
  host: HostState;
  certificate: PlannedCertificate;
  options: BindingPlanOptions;
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const hosts = [
  ...['', '', 'a.example.com', 'b.example.com', 'A.Example.com', 'münchen.example.com', 'xn--mnchen-3ya.example.com'],
  ...['*.example.com', 'example.com', 'deep.a.example.com', 'x.other.org', 'straße.example.com'],
];
const ips = ['*', '*', '*', '10.0.0.1', '10.0.0.2', '[fe80::1]', '[2001:DB8::A]', '', '0.0.0.0'];
const ports = [443, 443, 443, 8443, 80];
const flags = [0, 0, 1, 1, 1, 2, 3, 4, 5, 32, 33, 37];
const thumbprints = [null, 'OLD', 'OURS', 'THEIRS', 'THEIRS', 'NEW'];
const names = [
  ...[['a.example.com'], ['*.example.com'], ['a.example.com', 'B.example.com'], ['xn--mnchen-3ya.example.com']],
  ...[['münchen.example.com', 'x.other.org'], ['*.example.com', 'example.com'], ['nobody.example.net']],
];

/** Few addresses, hosts and certificates, so that they meet: the interesting hosts are those where bindings share something. */
export function drawHost(seed: number): Draw {
  const next = generator(seed);
  const one = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
  const chance = (odds: number) => next() < odds;
  const iisMajor = one([7, 8, 10, 10, 10]);
  const records = new Map<string, string | null>();
  const certificateOf = (key: string | null) => {
    if (key === null) return null;
    if (!records.has(key)) records.set(key, one(thumbprints));
    return records.get(key) ?? null;
  };

  function drawBinding(): Binding {
    const protocol = one(['http', 'https', 'https', 'https', 'ftp', 'net.tcp']);
    const bindingInformation = protocol === 'net.tcp' ? '808:*' : `${one(ips)}:${one(ports)}:${one(hosts)}`;
    const known = iisMajor < 8 ? 0 : iisMajor < 10 ? 3 : 0xff;
    const sslFlags = protocol === 'https' ? one(flags) & known : 0;
    const thumbprint = certificateOf(recordKey({ protocol, bindingInformation, sslFlags }));
    return { protocol, bindingInformation, sslFlags, thumbprint, store: thumbprint === null ? null : 'My' };
  }

  function drawSite(id: number): Site {
    const bindings = new Map<string, Binding>();
    for (let count = Math.floor(next() * 5); count >= 0; count -= 1) {
      const binding = drawBinding();
      const key = `${binding.protocol} ${binding.bindingInformation.toLowerCase()}`;
      if (!bindings.has(key)) bindings.set(key, binding);
    }
    const list = [...bindings.values()];
    const ftp = list.some(({ protocol }) => protocol === 'ftp') ? one(thumbprints) : undefined;
    return {
      id,
      name: `site${id}`,
      state: one(['Started', 'Started', 'Started', 'Stopped', 'Unknown']),
      bindings: list,
      ftp: ftp === undefined ? null : { thumbprint: ftp, store: ftp === null ? null : 'My' },
    };
  }

  const sites = Array.from({ length: 1 + Math.floor(next() * 5) }, (_, index) => drawSite(index + 1));
  const mode = one(['site', 'site', 'auto', 'all', 'store'] as const);
  return {
    host: { iisMajor, osBuild: one([14_393, 17_763, 20_348]), sites },
    certificate: { names: one(names), thumbprint: 'NEW' },
    options: {
      mode,
      store: 'My',
      ...(mode === 'site' ? { site: one(sites).id } : {}),
      ...(chance(0.5) ? { oldThumbprint: 'OLD' } : {}),
      ...(chance(0.4) ? { blankHost: true } : {}),
      ...(chance(0.2) ? { updateOnly: true } : {}),
      ...(chance(0.3) ? { addMissing: true } : {}),
      ...(chance(0.2) ? { port: one([8443, 444]) } : {}),
      ...(chance(0.2) ? { ip: one(['10.0.0.1', 'fe80::1', '*']) } : {}),
      ...(chance(0.4) ? { replace: 'ours' as const, ours: new Set(['OURS']) } : {}),
    },
  };
}

/** The same host, with its sites and bindings in another order. */
export function shuffled(host: HostState, seed: number): HostState {
  const next = generator(seed);
  const shuffle = <T>(list: readonly T[]): T[] =>
    list
      .map((value) => ({ value, key: next() }))
      .sort((a, b) => a.key - b.key)
      .map(({ value }) => value);
  return { ...host, sites: shuffle(host.sites).map((site) => ({ ...site, bindings: shuffle(site.bindings) })) };
}
