/** A binding of an IIS site as the host has it. */
export interface Binding {
  protocol: string;
  /** `ip:port:host` as it stands in applicationHost.config; split from the right, the ip may hold colons. */
  bindingInformation: string;
  /** Bits: 1 SNI, 2 central store, 4 no HTTP/2, 8 no OCSP stapling, 16 no QUIC, 32 no TLS 1.3, 64 no legacy TLS. */
  sslFlags: number;
  /** SHA-1 of the certificate in http.sys, upper-case hexadecimal; null when none or unreadable. */
  thumbprint: string | null;
  /** Certificate store (`My`, `WebHosting`). */
  store: string | null;
}

export interface Site {
  id: number;
  name: string;
  state: 'Started' | 'Stopped' | 'Unknown';
  bindings: Binding[];
}

/** What a host says of itself. */
export interface HostState {
  /** IIS major version: 7, 8 or 10; 10 for Windows Server 2016 to 2025. */
  iisMajor: number;
  /** Windows build: 14393 Server 2016, 17763 Server 2019, 20348 Server 2022. */
  osBuild: number;
  sites: Site[];
}

/** One change of a binding. `expect` is what the host must still have, or nothing is changed; null for a binding that must not exist. */
export interface BindingChange {
  op: 'add' | 'update' | 'remove';
  siteId: number;
  protocol: 'https';
  bindingInformation: string;
  sslFlags: number;
  /** The certificate the binding gets; null with `remove`. */
  thumbprint: string | null;
  store: string | null;
  expect: { thumbprint: string | null; sslFlags: number } | null;
}

/** A certificate with its key on the way to a host. */
export interface PfxImport {
  pfx: Buffer;
  password: string;
  thumbprint: string;
  store: string;
  friendlyName: string;
}

/** A place that accepts binding changes: the lab host now, Windows hosts by other transports later. All calls may throw `CertlineError`. */
export interface IisHost {
  /** Version, sites and bindings, read afresh. */
  read(signal: AbortSignal): Promise<HostState>;
  /** Puts a certificate with its key into the store; doing it again changes nothing. */
  importPfx(certificate: PfxImport, signal: AbortSignal): Promise<void>;
  /** All changes in one commit, or none: `plan_drifted` when an expectation does not hold. */
  apply(changes: readonly BindingChange[], signal: AbortSignal): Promise<void>;
  /** Where a TLS client reaches a binding of the host: `ip` as in the binding (`*` for all addresses). */
  endpoint(ip: string, port: number): { host: string; port: number };
}
