import { createHash } from 'node:crypto';
import ssh2, { type AnyAuthMethod, type Client, type ServerHostKeyAlgorithm } from 'ssh2';
import { CertlineError } from '../../errors.ts';
import type { SshSecret } from '../../model/credential.ts';

/** An OpenSSH server with what is needed to log in. */
export interface SshHost {
  host: string;
  port: number;
  /** Fingerprint of the key it must have; null when it was never met. */
  hostKey: string | null;
  /** Who logs in. Throws `credential_unknown`, `secret_unreadable`. */
  openCredential(): Promise<{ username: string; secret: SshSecret }>;
  /** Remembers the key of a host that is met for the first time. */
  pinHostKey(fingerprint: string): Promise<void>;
  /** Time for connecting and logging in; 20 s unless told. */
  connectMs?: number;
  /** A host that answers nothing for three times as long is gone; 10 s unless told. */
  keepAliveMs?: number;
}

export interface SshConnection {
  client: Client;
  place: string;
  hostKey: { fingerprint: string; isNew: boolean };
  /** Why the connection is no more; null while it is. */
  lost(): Error | null;
  /** Cuts it off, with everything that runs over it. Without a goodbye: a host that has gone silent would be waited for, for ever. */
  drop(): void;
}

/** The kinds of host keys, the one that every OpenSSH server has first. A server shows one key: of the first kind that both have. */
const keyKinds: readonly (readonly ServerHostKeyAlgorithm[])[] = [
  ['ssh-ed25519'],
  ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'],
  ['rsa-sha2-512', 'rsa-sha2-256'],
];
const lostAfterKeepAlives = 3;

/** The host has shown a key that is not the pinned one. */
class OtherHostKey extends Error {
  readonly fingerprint: string;
  constructor(fingerprint: string) {
    super(`the host shows the key ${fingerprint}`);
    this.fingerprint = fingerprint;
  }
}

/** As OpenSSH shows a key: `SHA256:` and the digest of the key in base64 without padding. */
export function hostKeyFingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

function loginMethod(username: string, secret: SshSecret): AnyAuthMethod {
  if ('password' in secret) return { type: 'password', username, password: secret.password };
  const { privateKey, passphrase } = secret;
  const parsed = ssh2.utils.parseKey(privateKey, passphrase);
  if (parsed instanceof Error) {
    const detail = `the private key of the credential cannot be read: ${parsed.message}`;
    throw new CertlineError('ssh_login_refused', detail, { evidence: { username } });
  }
  return { type: 'publickey', username, key: privateKey, ...(passphrase === undefined ? {} : { passphrase }) };
}

/**
 * Connects and logs in. The host's key is compared with the pinned one, or pinned, after the host has proved that the key is its own and
 * before anything of the credential is sent.
 *
 * @throws CertlineError `target_unreachable`, `host_key_changed` (both fingerprints in the evidence), `ssh_login_refused`, and what
 * `openCredential` and `pinHostKey` throw.
 * @throws the signal's reason when it is aborted.
 */
export async function openSshConnection(host: SshHost, signal: AbortSignal): Promise<SshConnection> {
  const { username, secret } = await host.openCredential();
  const method = loginMethod(username, secret);
  const seen: string[] = [];
  // The pinned key may be another one of the host's: somebody who looked it up took any of three.
  for (let kinds = keyKinds; kinds.length > 0; kinds = kinds.slice(1)) {
    try {
      return await connect(host, method, kinds.flat(), signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof OtherHostKey) seen.push(error.fingerprint);
      else if (seen.length === 0) throw error;
    }
  }
  const detail = `${host.host}:${host.port} shows the host key ${seen[0]}, not ${host.hostKey}; nothing was sent to it`;
  throw new CertlineError('host_key_changed', detail, {
    evidence: { host: host.host, port: host.port, expected: host.hostKey, seen: [...new Set(seen)] },
  });
}

function connect(
  host: SshHost,
  method: AnyAuthMethod,
  kinds: ServerHostKeyAlgorithm[],
  signal: AbortSignal,
): Promise<SshConnection> {
  const { promise, resolve, reject } = Promise.withResolvers<SshConnection>();
  const client = new ssh2.Client();
  const where = `${host.host}:${host.port}`;
  const known = { fingerprint: host.hostKey, isNew: host.hostKey === null };
  let lost: Error | null = null;
  let loginSent = false;
  let methods: readonly string[] = [];

  const fail = (reason: unknown): void => {
    signal.removeEventListener('abort', abort);
    reject(reason);
    client.destroy();
  };
  const abort = (): void => fail(signal.reason);
  const broken = (error: Error & { level?: string }): void => {
    lost ??= error;
    const evidence = { host: host.host, port: host.port };
    fail(
      error.level === 'client-authentication'
        ? refusedLogin(error)
        : new CertlineError('target_unreachable', `cannot connect to ${where}: ${error.message}`, {
            evidence,
            cause: error,
          }),
    );
  };
  const refusedLogin = (cause: Error): CertlineError => {
    const how = method.type === 'password' ? 'password' : 'key';
    const evidence = {
      host: host.host,
      port: host.port,
      username: method.username,
      hostKey: known.fingerprint,
      methods,
    };
    return new CertlineError('ssh_login_refused', `${where} refuses the ${how} of ${method.username}`, {
      evidence,
      cause,
    });
  };

  // It stays after the connection was opened: an error without a listener would end the process.
  client.on('error', broken);
  client.once('close', () => broken(new Error('the host closed the connection')));
  client.once('ready', () => {
    signal.removeEventListener('abort', abort);
    resolve({
      client,
      place: `${where} as ${method.username}`,
      hostKey: { fingerprint: known.fingerprint ?? '', isNew: known.isNew },
      lost: () => lost,
      drop: () => {
        lost ??= new Error('it was given up');
        client.destroy();
      },
    });
  });
  signal.addEventListener('abort', abort, { once: true });
  client.connect({
    host: host.host,
    port: host.port,
    username: method.username,
    readyTimeout: host.connectMs ?? 20_000,
    keepaliveInterval: host.keepAliveMs ?? 10_000,
    keepaliveCountMax: lostAfterKeepAlives,
    algorithms: { serverHostKey: kinds },
    // Also asked when keys are exchanged anew, hours later.
    hostVerifier: (key: Buffer): boolean => {
      const fingerprint = hostKeyFingerprint(key);
      known.fingerprint ??= fingerprint;
      if (fingerprint === known.fingerprint) return true;
      fail(new OtherHostKey(fingerprint));
      return false;
    },
    // First called when the host has proved its key: only now may it be pinned, and only when it is may the login follow.
    authHandler: (methodsLeft, _partial, next) => {
      methods = methodsLeft ?? [];
      if (loginSent) return next(false as never);
      loginSent = true;
      const pinned = known.isNew ? host.pinHostKey(known.fingerprint ?? '') : Promise.resolve();
      pinned.then(() => next(method), fail);
    },
  });
  return promise;
}
