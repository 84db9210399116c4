import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import { nameCovers } from '../model/domain-name.ts';
import { sideBySide } from '../side-by-side.ts';
import { parseBindingInformation } from './binding-information.ts';
import { probeFtpThumbprint } from './ftp-handshake.ts';
import { probeThumbprint, type ServedCertificate } from './handshake.ts';
import type { Binding, BindingChange, HostState, IisHost, Site } from './iis-host.ts';

/** A binding that does not serve what it ought to. */
export interface Mismatch {
  /** `host:port` as a client asks for it. */
  binding: string;
  /** Thumbprint that was served; null when there was no handshake. */
  seen: string | null;
  error: string | null;
}

/** A certificate and what was changed for it: those bindings must have it. Others that have it are looked at too. */
export interface VerifiedPart {
  certificate: { thumbprint: string; names: readonly string[] };
  changes: readonly BindingChange[];
}

export interface VerifyOptions {
  clock: Clock;
  signal: AbortSignal;
}

const handshakeTimeoutMs = 10_000;
/** A change of bindings takes a moment to reach http.sys. */
const looks = 5;
const betweenLooksMs = 200;
/** No further look after this: an address that does not answer at all is not waited for again. */
const patienceMs = 10_000;
/** Handshakes with one host at a time. */
const atOnce = 16;
/** Where IIS speaks TLS from the first byte on. */
const implicitFtpPort = 990;

/** A handshake that must show a certificate. */
interface Look {
  /** `host:port` as a client asks for it. */
  binding: string;
  thumbprint: string;
  shake: () => Promise<ServedCertificate>;
}

/** The name a client would ask a binding for: its host, a name below a wildcard host, one of the certificate's for a blank one. */
function serverName(host: string, names: readonly string[]): string {
  if (host.startsWith('*.')) return `certline-probe${host.slice(1)}`;
  if (host !== '') return host;
  return names.find((name) => !name.startsWith('*.')) ?? `certline-probe${names[0]?.slice(1) ?? ''}`;
}

/** Shakes hands until the thumbprint is seen, or the looks or the time are used up. */
async function lookUntilSeen({ binding, thumbprint, shake }: Look, options: VerifyOptions): Promise<Mismatch | null> {
  const { clock, signal } = options;
  const begun = clock.now();
  let last: Mismatch = { binding, seen: null, error: null };
  for (let i = 0; i < looks && clock.now() - begun < patienceMs; i += 1) {
    if (i > 0) await clock.sleep(betweenLooksMs, signal);
    try {
      const served = await shake();
      if (served.thumbprint === thumbprint) return null;
      last = { ...last, seen: served.thumbprint, error: null };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof CertlineError)) throw error;
      last = { ...last, seen: null, error: error.message };
    }
  }
  return last;
}

const hasProtocol = (binding: Binding, protocol: string): boolean => binding.protocol.toLowerCase() === protocol;

/** A host's https bindings and ftp sites by where they are and by the certificate they have: one read serves many certificates. */
class Holdings {
  readonly #sites: ReadonlyMap<number, Site>;
  readonly #https = new Map<string, { site: Site; binding: Binding }>();
  readonly #byThumbprint: Map<string | null, { site: Site; binding: Binding }[]>;
  readonly #ftp: Map<string | null | undefined, Site[]>;

  constructor({ sites }: HostState) {
    this.#sites = new Map(sites.map((site) => [site.id, site]));
    for (const site of sites) {
      for (const binding of site.bindings.filter((one) => hasProtocol(one, 'https')))
        this.#https.set(`${site.id} ${binding.bindingInformation}`, { site, binding });
    }
    this.#byThumbprint = Map.groupBy(this.#https.values(), ({ binding }) => binding.thumbprint);
    this.#ftp = Map.groupBy(sites, ({ ftp }) => ftp?.thumbprint);
  }

  /** The certificate where the change is, and null when there is none; undefined when the place is gone. */
  thumbprintAt({ protocol, siteId, bindingInformation }: BindingChange): string | null | undefined {
    if (protocol === 'ftp') return this.#sites.get(siteId)?.ftp?.thumbprint;
    return this.#https.get(`${siteId} ${bindingInformation}`)?.binding.thumbprint;
  }

  httpsWith(thumbprint: string): readonly { site: Site; binding: Binding }[] {
    return this.#byThumbprint.get(thumbprint) ?? [];
  }

  ftpWith(thumbprint: string): readonly Site[] {
    return this.#ftp.get(thumbprint) ?? [];
  }
}

/** What the host says that is not as the changes would have it; null when all is. */
function notTakenOver(holdings: Holdings, { certificate, changes }: VerifiedPart): Mismatch | null {
  for (const change of changes.filter(({ op }) => op !== 'remove')) {
    const { protocol, siteId, bindingInformation } = change;
    const seen = holdings.thumbprintAt(change);
    if (seen === certificate.thumbprint) continue;
    if (protocol === 'ftp') {
      return { binding: `ftp of site ${siteId}`, seen: seen ?? null, error: 'the host did not take the change over' };
    }
    if (seen === undefined) {
      return { binding: bindingInformation, seen: null, error: `the binding is gone from site ${siteId}` };
    }
    const address = parseBindingInformation(bindingInformation);
    const binding = address ? `${serverName(address.host, certificate.names)}:${address.port}` : bindingInformation;
    return { binding, seen, error: 'the host did not take the change over' };
  }
  return null;
}

function httpsLooks(host: IisHost, holdings: Holdings, part: VerifiedPart, signal: AbortSignal): Look[] {
  const { names, thumbprint } = part.certificate;
  const changed = new Set(
    part.changes.flatMap(({ protocol, siteId, bindingInformation }) =>
      protocol === 'https' ? [`${siteId} ${bindingInformation}`] : [],
    ),
  );
  return holdings.httpsWith(thumbprint).flatMap(({ site, binding }): Look[] => {
    const address = parseBindingInformation(binding.bindingInformation);
    if (!address || site.state !== 'Started') return [];
    const { ip, port } = address;
    if (host.answersOnlyItself?.(ip)) return [];
    const meant =
      changed.has(`${site.id} ${binding.bindingInformation}`) ||
      address.host === '' ||
      names.some((name) => nameCovers(name, address.host));
    if (!meant) return [];
    const name = serverName(address.host, names);
    const shake = async () => probeThumbprint(host.endpoint(ip, port), name, handshakeTimeoutMs, signal);
    return [{ binding: `${name}:${port}`, thumbprint, shake }];
  });
}

function ftpLooks(host: IisHost, holdings: Holdings, { certificate }: VerifiedPart, signal: AbortSignal): Look[] {
  const { thumbprint } = certificate;
  const sites = holdings.ftpWith(thumbprint).filter(({ state }) => state === 'Started');
  const bindings = sites.flatMap((site) => site.bindings.filter((one) => hasProtocol(one, 'ftp')));
  return bindings.flatMap(({ bindingInformation }): Look[] => {
    const address = parseBindingInformation(bindingInformation);
    if (!address) return [];
    const { ip, port } = address;
    if (host.answersOnlyItself?.(ip)) return [];
    const name = address.host === '' ? null : serverName(address.host, []);
    const probe = port === implicitFtpPort ? probeThumbprint : probeFtpThumbprint;
    const shake = async () => probe(host.endpoint(ip, port), name, handshakeTimeoutMs, signal);
    return [{ binding: `ftp ${name ?? ip}:${port}`, thumbprint, shake }];
  });
}

/**
 * Looks whether certificates are served as they ought to be, at the host's own address and not through DNS: every binding of `state`
 * (read after the commit) that was changed or has one of them is asked, https by a TLS handshake with SNI, ftp by AUTH TLS. A site that
 * is not started cannot be asked, nor an address that only the host itself reaches: what the host says of its bindings must do.
 * Answers the first binding of each part that is not right, null where all are.
 */
export async function verifyParts(
  host: IisHost,
  state: HostState,
  parts: readonly VerifiedPart[],
  options: VerifyOptions,
): Promise<(Mismatch | null)[]> {
  const holdings = new Holdings(state);
  const found: (Mismatch | null)[] = parts.map((part) => notTakenOver(holdings, part));
  const looksOf = (part: VerifiedPart) => [
    ...httpsLooks(host, holdings, part, options.signal),
    ...ftpLooks(host, holdings, part, options.signal),
  ];
  const all = parts.flatMap((part, at) => (found[at] ? [] : looksOf(part).map((look) => ({ at, look }))));
  // One mismatch of a part is enough, and of those found at the same time the first counts: the same host has the same answer.
  const failed = new Set<number>();
  const seen = await sideBySide(all, atOnce, async ({ at, look }) => {
    const mismatch = failed.has(at) ? null : await lookUntilSeen(look, options);
    if (mismatch) failed.add(at);
    return mismatch;
  });
  for (const [index, { at }] of all.entries()) found[at] ??= seen[index] ?? null;
  return found;
}
