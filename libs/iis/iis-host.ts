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

/** Where a certificate lies: both null when there is none. */
export interface StoredCertificate {
  thumbprint: string | null;
  store: string | null;
}

export interface Site {
  id: number;
  name: string;
  state: 'Started' | 'Stopped' | 'Unknown';
  bindings: Binding[];
  /** The one certificate of all its ftp bindings; null for a site that has none of these. */
  ftp: StoredCertificate | null;
  /** Folder of the root application, environment variables expanded; null where it cannot be read. */
  physicalPath?: string | null;
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
  /** `ftp` is the certificate of the site, for all its ftp bindings: always an update, with sslFlags 0. */
  protocol: 'https' | 'ftp';
  /** Empty with `ftp`. */
  bindingInformation: string;
  sslFlags: number;
  /** The certificate the binding gets; null with `remove`, and where there was none before. */
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
  /** Whether the key may be exported from the host again. */
  exportable: boolean;
  /** Accounts or SIDs that may read the key, besides administrators and IIS. */
  readers: readonly string[];
}

/** Answers to http-01 for a host to give by a listener of its own, beside its sites. */
export interface ListenerWish {
  port: number;
  /** After this time it ends in any case. */
  seconds: number;
  /** Key authorizations by token. */
  answers: Readonly<Record<string, string>>;
}

/** The web.config beside a challenge file, as the script write-challenge has them. */
export type WebConfig = 'none' | 'mime' | 'mime-handlers' | 'any' | 'any-handlers' | 'full';

/** One step of the test of a host, for a person. */
export interface TestStep {
  step: 'connect' | 'host key' | 'rights' | 'iis' | 'stores';
  ok: boolean;
  detail: string;
}

/** A place that accepts binding changes: the lab host now, Windows hosts by other transports later. All calls may throw `CertlineError`. */
export interface IisHost {
  /** Version, sites and bindings, read afresh. */
  read(signal: AbortSignal): Promise<HostState>;
  /** Puts a certificate with its key into the store; doing it again changes nothing. */
  importPfx(certificate: PfxImport, signal: AbortSignal): Promise<void>;
  /** All changes in one commit, or none: `plan_drifted` when an expectation does not hold. */
  apply(changes: readonly BindingChange[], signal: AbortSignal): Promise<void>;
  /** Takes a certificate with its key out of a store, unless something on the host still uses it: a binding, an ftp site or http.sys. */
  removeCertificate(thumbprint: string, store: string, signal: AbortSignal): Promise<'removed' | 'absent' | 'in use'>;
  /**
   * Answers challenges until its time is over, and calls `onListening` when it does: with the tokens that somebody else on the host has a
   * listener for already, which are left to that. When all of them are, there is nothing to do, and it comes to its end at once. When the
   * signal is aborted, or the connection lost, the listener on the host ends too.
   */
  listenForChallenges(
    listener: ListenerWish,
    onListening: (taken: readonly string[]) => void,
    signal: AbortSignal,
  ): Promise<void>;
  /**
   * Writes the answer to a challenge into the folder of a site; doing it again changes nothing. A web.config of somebody else stays. Throws
   * `site_not_found`.
   */
  writeChallenge(
    challenge: { siteId: number; token: string; keyAuthorization: string; webConfig: WebConfig },
    signal: AbortSignal,
  ): Promise<void>;
  /** Takes it away, with the last one our web.config and the folders too; fine when nothing is there. */
  removeChallenge(challenge: { siteId: number; token: string }, signal: AbortSignal): Promise<void>;
  /** What works, step by step, up to the first that does not. Never throws for what it finds. */
  test(signal: AbortSignal): Promise<TestStep[]>;
  /** Whether nobody but the host itself reaches this address of a binding: from here there is nothing to see. */
  answersOnlyItself?(ip: string): boolean;
  /** Where a TLS client reaches a binding of the host: `ip` as in the binding (`*` for all addresses). */
  endpoint(ip: string, port: number): { host: string; port: number };
  /** Gives up the connection of a host that keeps one; the next call opens another. Whoever opened a host calls it in the end. */
  close?(): Promise<void>;
}
