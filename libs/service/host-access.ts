import { CertlineError } from '#libs/errors';
import type { HostAccess } from '#libs/iis/hosts';
import { credentialSecretName, type SshSecret, sshSecretSchema } from '#libs/model/credential';
import type { IisTarget, Target } from '#libs/model/target';
import type { SecretBox } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';

function readSecret(id: string, opened: Buffer): SshSecret {
  try {
    return sshSecretSchema.parse(JSON.parse(opened.toString('utf8')));
  } catch {
    // Without its cause: the words of a parser may quote the secret.
    throw new CertlineError('secret_unreadable', `the secret of ${id} is none for ssh`);
  }
}

/** What the host of a target is opened with: logins, and the place where its key is remembered. */
export function createHostAccess(
  { credentials, secrets, targets }: Pick<Store, 'credentials' | 'secrets' | 'targets'>,
  box: SecretBox,
  { transport: met }: Pick<IisTarget, 'transport'>,
): HostAccess {
  /** The target with the key pinned, if it is still to be pinned at the address where the key was met. */
  function pinned(target: Target, fingerprint: string): Target {
    if (target.kind !== 'iis') return target;
    const { transport } = target;
    if (transport.kind !== 'ssh' || met.kind !== 'ssh') return target;
    if (transport.host !== met.host || transport.port !== met.port) return target;
    if (transport.hostKey === null) return { ...target, transport: { ...transport, hostKey: fingerprint } };
    if (transport.hostKey === fingerprint) return target;
    const evidence = { pinned: transport.hostKey, seen: fingerprint };
    const detail = `${transport.host} shows the host key ${fingerprint}, and ${transport.hostKey} was pinned meanwhile`;
    throw new CertlineError('host_key_changed', detail, { evidence });
  }

  return {
    async openCredential(id) {
      const credential = await credentials.get(id);
      const sealed = await secrets.get(credentialSecretName(id));
      if (credential === null || sealed === null)
        throw new CertlineError('credential_unknown', `there is no credential ${id}`);
      if (credential.kind !== 'ssh')
        throw new CertlineError('credential_unknown', `${id} is of kind ${credential.kind}, and no login for hosts`);
      return { username: credential.username, secret: readSecret(id, box.open(credentialSecretName(id), sealed)) };
    },
    async pinHostKey(targetId, fingerprint) {
      await targets.update(targetId, (target) => pinned(target, fingerprint));
    },
  };
}
