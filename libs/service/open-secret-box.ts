import type { Config } from '#libs/config';
import { createSecretBox, parseMasterKeys, type SecretBox } from '#libs/store/secret-box';
import type { Store } from '#libs/store/store';

const proofName = 'master-key-proof';

function readKeys(text: string): SecretBox {
  try {
    return createSecretBox(parseMasterKeys(text));
  } catch (error) {
    throw new Error(`MASTER_KEY: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/**
 * The box that opens secrets. Throws when the process was given no master key, or not those that the secrets in the store were sealed with:
 * better no start than orders that fail one after the other.
 */
export async function openSecretBox(
  { secrets }: Pick<Store, 'secrets'>,
  config: Config<'secrets'>,
): Promise<SecretBox> {
  if (!config.MASTER_KEY) {
    throw new Error('MASTER_KEY is not set: make one with `openssl rand -base64 32` and give the same to all services');
  }
  const box = readKeys(config.MASTER_KEY);
  for (const [keyId, proof] of Object.entries(await secrets.masterKeyProofs())) {
    try {
      box.open(proofName, proof);
    } catch (cause) {
      const hint = 'give the key that was used before (add it behind the new one, separated by a comma)';
      throw new Error(`MASTER_KEY: secrets in this Redis were sealed with another key "${keyId}": ${hint}`, { cause });
    }
  }
  // Only now: a process that is refused must not leave a proof behind that refuses the right one.
  await secrets.addMasterKeyProof(box.currentKeyId, box.seal(proofName, box.currentKeyId));
  return box;
}
