import { CertlineError } from '../errors.ts';
import type { Command } from './redis.ts';
import type { SecretBox } from './secret-box.ts';
import type { SecretStore } from './store.ts';

/** Private keys at rest: sealed under their name, opened only where they are used. */
export interface PrivateKeys {
  /** The key of this name, which becomes what `make` makes if there is none: asked for twice, even by two processes, it is the same. PKCS#8 PEM. */
  obtain(name: string, make: () => Promise<string>): Promise<string>;
  /** The command that keeps a key (PKCS#8 PEM): to be done in one step with the record that names it. */
  keeping(name: string, privateKeyPem: string): Command;
  /** Throws `secret_unreadable` when it is gone or was sealed with a master key this process lacks. */
  open(name: string): Promise<string>;
}

export function createPrivateKeys(secrets: SecretStore, box: SecretBox): PrivateKeys {
  const unseal = (name: string, sealed: string): string => box.open(name, sealed).toString('utf8');
  return {
    async obtain(name, make) {
      const key = await make();
      const sealed = box.seal(name, key);
      const counts = await secrets.putOnce(name, sealed);
      return counts === sealed ? key : unseal(name, counts);
    },
    keeping: (name, privateKeyPem) => secrets.putting(name, box.seal(name, privateKeyPem)),
    async open(name) {
      const sealed = await secrets.get(name);
      if (sealed === null) throw new CertlineError('secret_unreadable', `there is no secret ${name}`);
      return unseal(name, sealed);
    },
  };
}
