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

/** What DER begins with (X.690 §8.9); PEM begins with a dash. */
const sequenceTag = 0x30;

/** The bytes of a key in the form that Node writes (PKCS#8 PEM): a quarter less to keep, for every certificate. */
function bytesOf(privateKeyPem: string): Buffer {
  const bytes = Buffer.from(privateKeyPem.replace(/^-.*-$/gm, ''), 'base64');
  // What would come back otherwise than it was is kept as it is.
  return pemOf(bytes) === privateKeyPem ? bytes : Buffer.from(privateKeyPem);
}

function pemOf(kept: Buffer): string {
  if (kept[0] !== sequenceTag) return kept.toString('utf8');
  const lines = kept.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`;
}

export function createPrivateKeys(secrets: SecretStore, box: SecretBox): PrivateKeys {
  const seal = (name: string, privateKeyPem: string): string => box.seal(name, bytesOf(privateKeyPem));
  const unseal = (name: string, sealed: string): string => pemOf(box.open(name, sealed));
  return {
    async obtain(name, make) {
      const key = await make();
      const sealed = seal(name, key);
      const counts = await secrets.putOnce(name, sealed);
      return counts === sealed ? key : unseal(name, counts);
    },
    keeping: (name, privateKeyPem) => secrets.putting(name, seal(name, privateKeyPem)),
    async open(name) {
      const sealed = await secrets.get(name);
      if (sealed === null) throw new CertlineError('secret_unreadable', `there is no secret ${name}`);
      return unseal(name, sealed);
    },
  };
}
