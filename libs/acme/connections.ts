import { createHash } from 'node:crypto';
import type { Clock } from '#libs/clock';
import { type AcmeObserver, type AcmePermit, type CaConnection, createCaConnection } from './ca-connection.ts';
import { type AccountSigner, createAccountSigner } from './jws.ts';
import type { AcmeLog, AcmeOperation } from './operations.ts';
import { type AcmeSession, openSession } from './session.ts';

export interface AcmeConnectionsOptions {
  clock: Clock;
  /** Version of certline, for the User-Agent. */
  userAgentVersion: string;
  /** For one request, from the call to the last byte of the answer, in ms (30 s). */
  timeoutMs?: number;
  /** Most connections to one CA (8). */
  maxSockets?: number;
  log?: AcmeLog;
  observe?: AcmeObserver;
  permit?: AcmePermit;
}

/** Whose session, and where. */
export interface AcmeSessionAccount {
  directoryUrl: string;
  /** P-256 private key, PKCS#8 PEM. */
  accountKeyPem: string;
  /** The CA's URL of the account; null when it is not known: it is registered, or looked up by the key at the first need. */
  accountUrl: string | null;
  /** PEM certificates trusted besides the roots of the system. */
  caBundle: string | null;
}

/** The connections of a process to its CAs: one for each directory URL and caBundle, with its sockets, directory and nonces. */
export interface AcmeConnections {
  /**
   * A session; cheap, to be made for each job and left to the garbage collector.
   * @throws CertlineError `secret_unreadable` for a bad key, `ca_untrusted` for a bad caBundle
   */
  session(account: AcmeSessionAccount): AcmeSession;
  /** The shared part alone, for what needs no account: the directory's meta, renewal information. */
  ca(where: { directoryUrl: string; caBundle: string | null }): CaConnection;
  /** Closes every connection; requests under way fail as `ca_unreachable`. */
  close(): Promise<void>;
}

/** Made once by a process at its start. */
export function createAcmeConnections(options: AcmeConnectionsOptions): AcmeConnections {
  const connections = new Map<string, CaConnection>();
  const ca: AcmeConnections['ca'] = ({ directoryUrl, caBundle }) => {
    const trust = caBundle ? createHash('sha256').update(caBundle).digest('base64url') : '';
    const key = `${trust} ${directoryUrl}`;
    const known = connections.get(key);
    if (known) return known;
    const made = createCaConnection({
      ...options,
      directoryUrl,
      caBundle: caBundle || null,
    });
    connections.set(key, made);
    return made;
  };
  // Reading a key costs more than signing with it, and a process has few accounts.
  const signers = new Map<string, AccountSigner>();
  const signerOf = (accountKeyPem: string): AccountSigner => {
    const signer = signers.get(accountKeyPem) ?? createAccountSigner(accountKeyPem);
    signers.set(accountKeyPem, signer);
    return signer;
  };
  return {
    ca,
    session: (account) => openSession(ca(account), signerOf(account.accountKeyPem), account.accountUrl),
    async close() {
      for (const connection of connections.values()) connection.close();
      connections.clear();
      signers.clear();
    },
  };
}

export interface AcmeSessionOptions extends AcmeSessionAccount {
  clock: Clock;
  userAgentVersion: string;
  timeoutMs?: number;
  log?: AcmeLog;
  /** `status` is 0 when there was no answer. */
  observe?: (operation: AcmeOperation, status: number, seconds: number) => void;
}

/** A session with connections of its own, which `close` ends: for tools and tests; workers use `createAcmeConnections`. */
export function createAcmeSession(options: AcmeSessionOptions): AcmeSession & { close(): Promise<void> } {
  const { observe, ...others } = options;
  const connections = createAcmeConnections({
    ...others,
    ...(observe === undefined
      ? {}
      : {
          observe: (_directoryUrl, operation, status, seconds) => observe(operation, status, seconds),
        }),
  });
  const session = connections.session(options);
  return Object.assign(session, { close: () => connections.close() });
}
