import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import { nameCovers } from '../model/domain-name.ts';
import { parseBindingInformation } from './binding-information.ts';
import { probeThumbprint } from './handshake.ts';
import type { Binding, BindingChange, HostState, IisHost } from './iis-host.ts';
import { bindingOf } from './put-back.ts';

/** A binding that does not serve what it ought to. */
export interface Mismatch {
  /** `host:port` as a client asks for it. */
  binding: string;
  /** Thumbprint that was served; null when there was no handshake. */
  seen: string | null;
  error: string | null;
}

export interface Verification {
  /** The first binding that is not right; null when all are. */
  mismatch: Mismatch | null;
  /** The host as it is now. */
  state: HostState;
}

export interface VerifyOptions {
  certificate: { thumbprint: string; names: readonly string[] };
  /** What was changed for this certificate: these must have it. Others that have it are looked at too. */
  changes: readonly BindingChange[];
  clock: Clock;
  signal: AbortSignal;
}

const handshakeTimeoutMs = 10_000;
/** A change of bindings takes a moment to reach http.sys. */
const looks = 5;
const betweenLooksMs = 200;

/** The name a client would ask a binding for: its host, a name below a wildcard host, one of the certificate's for a blank one. */
function serverName(host: string, names: readonly string[]): string {
  if (host.startsWith('*.')) return `certline-probe${host.slice(1)}`;
  if (host !== '') return host;
  return names.find((name) => !name.startsWith('*.')) ?? `certline-probe${names[0]?.slice(1) ?? ''}`;
}

/** Shakes hands until the thumbprint is seen or the looks are used up. */
async function look(
  host: IisHost,
  address: { ip: string; port: number },
  name: string,
  { certificate, clock, signal }: VerifyOptions,
): Promise<Mismatch | null> {
  let last: Mismatch = { binding: `${name}:${address.port}`, seen: null, error: null };
  for (let i = 0; i < looks; i += 1) {
    if (i > 0) await clock.sleep(betweenLooksMs, signal);
    try {
      const { thumbprint } = await probeThumbprint(
        host.endpoint(address.ip, address.port),
        name,
        handshakeTimeoutMs,
        signal,
      );
      if (thumbprint === certificate.thumbprint) return null;
      last = { ...last, seen: thumbprint, error: null };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof CertlineError)) throw error;
      last = { ...last, seen: null, error: error.message };
    }
  }
  return last;
}

/**
 * Reads the host afresh and shakes hands (TLS with SNI, at the host's own address, not through DNS) with every https binding that was
 * changed or has the certificate. A site that is not started cannot be asked: what the host says of its bindings must do.
 */
export async function verifyBindings(host: IisHost, options: VerifyOptions): Promise<Verification> {
  const { certificate, changes, signal } = options;
  const state = await host.read(signal);
  const isChanged = (siteId: number, { bindingInformation }: Binding): boolean =>
    changes.some(
      (change) =>
        change.op !== 'remove' && change.siteId === siteId && change.bindingInformation === bindingInformation,
    );
  for (const site of state.sites) {
    for (const binding of site.bindings) {
      const changed = isChanged(site.id, binding);
      const address = parseBindingInformation(binding.bindingInformation);
      const has = binding.thumbprint === certificate.thumbprint;
      const covered = address?.host === '' || certificate.names.some((name) => nameCovers(name, address?.host ?? ''));
      if (binding.protocol !== 'https' || !address || !(changed || (has && covered))) continue;
      const name = serverName(address.host, certificate.names);
      if (!has) {
        const mismatch = {
          binding: `${name}:${address.port}`,
          seen: binding.thumbprint,
          error: 'the host did not take the change over',
        };
        return { mismatch, state };
      }
      const mismatch = site.state === 'Started' ? await look(host, address, name, options) : null;
      if (mismatch) return { mismatch, state };
    }
  }
  const gone = changes.find((change) => change.op !== 'remove' && bindingOf(state, change) === undefined);
  if (gone) {
    const error = `the binding is gone from site ${gone.siteId}`;
    return { mismatch: { binding: gone.bindingInformation, seen: null, error }, state };
  }
  return { mismatch: null, state };
}
