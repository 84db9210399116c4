import type { Clock } from '#libs/clock';
import { CertlineError } from '#libs/errors';
import { credentialSecretName, plainSecretSchema } from '#libs/model/credential';
import type { DeliveryTarget } from '#libs/model/target';
import type { SecretBox } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';
import { createCentralStore } from '#libs/targets/central-store';
import type { CertificateTarget } from '#libs/targets/certificate-target';
import { createFolderTarget } from '#libs/targets/folder';
import { createWebhook } from '#libs/targets/webhook';

export interface TargetOpenerDeps {
  store: Pick<Store, 'credentials' | 'secrets'>;
  box: SecretBox;
  clock: Clock;
  /** Whether folders may have a command run. */
  allowCommands: boolean;
  /** Whether webhooks may be at addresses that are not of the public internet. */
  allowPrivateWebhooks: boolean;
}

/** Opens a target with its secrets. Throws `credential_unknown`, `secret_unreadable`. */
export type OpenTarget = (target: DeliveryTarget) => Promise<CertificateTarget>;

export function createTargetOpener(deps: TargetOpenerDeps): OpenTarget {
  const { store, box, clock, allowCommands, allowPrivateWebhooks: allowPrivate } = deps;

  async function openSecret(id: string): Promise<string> {
    const name = credentialSecretName(id);
    const [credential, sealed] = [await store.credentials.get(id), await store.secrets.get(name)];
    if (credential?.kind !== 'secret' || sealed === null)
      throw new CertlineError('credential_unknown', `there is no credential ${id} of kind secret`);
    const opened = box.open(name, sealed).toString('utf8');
    try {
      return plainSecretSchema.parse(JSON.parse(opened)).secret;
    } catch {
      // Without its cause: the words of a parser may quote the secret.
      throw new CertlineError('secret_unreadable', `the secret of ${id} cannot be read`);
    }
  }

  return async (target) => {
    switch (target.kind) {
      case 'folder': {
        const pfxPassword = target.pfx ? await openSecret(target.pfx.credential) : null;
        return createFolderTarget(target, { clock, pfxPassword, allowCommands });
      }
      case 'ccs':
        return createCentralStore(target, { clock, password: await openSecret(target.credential) });
      case 'webhook':
        return createWebhook(target, { clock, secret: await openSecret(target.credential), allowPrivate });
    }
  };
}
