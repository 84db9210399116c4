import { domainToASCII } from 'node:url';
import type { BindingChange, HostState, Site, StoredCertificate } from '#libs/iis/iis-host';

/** A binding as applicationHost.config has it: what it serves is in http.sys. */
interface ConfiguredBinding {
  protocol: string;
  bindingInformation: string;
  sslFlags: number;
}

/** Key of the http.sys record of an https binding, worked out apart from the planner (rules: one per ip:port, with SNI per host:port). */
export function recordKey({ protocol, bindingInformation, sslFlags }: ConfiguredBinding): string | null {
  const [, ip = '', port = '', host = ''] = /^(.*):(\d+):([^:]*)$/.exec(bindingInformation) ?? [];
  if (protocol !== 'https' || port === '' || (sslFlags & 2) !== 0) return null;
  if ((sslFlags & 1) !== 0 && host !== '') return `${host.replace(/[^*.]+/g, (part) => domainToASCII(part))}:${port}`;
  return `${['', '*', '::', '[::]'].includes(ip) ? '0.0.0.0' : ip.toLowerCase()}:${port}`;
}

/** An IIS host in memory: configuration and http.sys table apart, as on Windows, so that shared records behave as such. */
export class IisModel {
  readonly #head: Omit<HostState, 'sites'>;
  readonly #sites: Site[];
  readonly #records = new Map<string, StoredCertificate>();

  /** Where bindings of one record differ, the last one's certificate counts. */
  constructor({ sites, ...head }: HostState) {
    this.#head = head;
    this.#sites = structuredClone(sites);
    for (const binding of this.#sites.flatMap((site) => site.bindings)) {
      const key = recordKey(binding);
      const { thumbprint, store } = binding;
      if (key !== null && thumbprint !== null) this.#records.set(key, { thumbprint, store });
    }
  }

  /** The http.sys table. */
  records(): Record<string, StoredCertificate> {
    return Object.fromEntries([...this.#records].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  read(): HostState {
    const sites = this.#sites.map((site) => ({
      ...structuredClone(site),
      bindings: site.bindings
        .map((one) => ({ ...one, ...(this.#records.get(recordKey(one) ?? '') ?? { thumbprint: null, store: null }) }))
        .sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1)),
    }));
    return { ...this.#head, sites };
  }

  /** All or nothing, as one commit; throws where the host is not as a change expects. */
  apply(changes: readonly BindingChange[]): void {
    const before = this.read();
    const left = new Set<string>();
    for (const change of changes) {
      const site = this.#sites.find(({ id }) => id === change.siteId);
      const was = before.sites.find(({ id }) => id === change.siteId);
      if (!site || !was) throw new Error(`site ${change.siteId} is not there`);
      const { op, protocol, bindingInformation, sslFlags, thumbprint, store } = change;
      const at = site.bindings.findIndex((one) => one.protocol === protocol && isSame(one, bindingInformation));
      const current =
        protocol === 'ftp'
          ? was.ftp && { ...was.ftp, sslFlags: 0 }
          : was.bindings.find((one) => one.protocol === protocol && isSame(one, bindingInformation));
      const seen = current ? { thumbprint: current.thumbprint, sslFlags: current.sslFlags } : null;
      if (JSON.stringify(seen) !== JSON.stringify(change.expect) || (op === 'add') !== (seen === null)) {
        throw new Error(`${op} ${bindingInformation} of site ${site.id}: expected ${JSON.stringify(change.expect)}`);
      }
      if (protocol === 'ftp') {
        site.ftp = { thumbprint, store };
        continue;
      }
      const old = seen && recordKey({ protocol, bindingInformation, sslFlags: seen.sslFlags });
      if (old) left.add(old);
      if (at >= 0) site.bindings.splice(at, 1);
      if (op !== 'remove') site.bindings.push({ protocol, bindingInformation, sslFlags, thumbprint, store });
    }
    const used = new Set(this.#sites.flatMap((site) => site.bindings.map(recordKey)));
    for (const record of left) if (!used.has(record)) this.#records.delete(record);
    for (const change of changes.filter(({ op }) => op !== 'remove')) {
      const key = recordKey(change);
      if (key === null) continue;
      const { thumbprint, store } = change;
      if (thumbprint === null) this.#records.delete(key);
      else this.#records.set(key, { thumbprint, store });
    }
  }
}

const placeOf = ({ bindingInformation, protocol }: ConfiguredBinding) => `${bindingInformation} ${protocol}`;

function isSame(binding: ConfiguredBinding, bindingInformation: string): boolean {
  return binding.bindingInformation === bindingInformation;
}
