import { hostname } from 'node:os';
import type { Config } from '#libs/config';
import { fingerprintOf, type MasterKeys, parseMasterKeys } from '#libs/store/master-keys';
import { createSecretBox, type SecretBox } from '#libs/store/secret-box';
import { refuseWhileRestoring } from './refuse-while-restoring.ts';
import type { Resources } from './resources.ts';

const proofName = 'master-key-proof';

/** How often a process says which master keys it has, and for how long that is believed, ms. */
const announceMs = 10_000;
const holderLifeMs = 30_000;
const lookAgainMs = 250;

function readKeys(text: string): { given: MasterKeys; box: SecretBox } {
  try {
    const given = parseMasterKeys(text);
    return { given, box: createSecretBox(given) };
  } catch (error) {
    throw new Error(`MASTER_KEY: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/**
 * Checks that `keys` (as MASTER_KEY) opens what was sealed with each of the keys that `proofs` are of. Throws an Error that names the first
 * key that is missing, or is another one than that of its id.
 */
export function checkMasterKeys(keys: string, proofs: Readonly<Record<string, string>>): void {
  const { given, box } = readKeys(keys);
  for (const [id, proof] of Object.entries(proofs)) {
    const sealed = `secrets are sealed with master key "${id}"`;
    if (!given.keys.has(id))
      throw new Error(`MASTER_KEY: ${sealed}, which is missing: add it behind the others, separated by a comma`);
    try {
      box.open(proofName, proof);
    } catch (cause) {
      throw new Error(`MASTER_KEY: ${sealed}, and this is another key of that id: give each key the id it had`, {
        cause,
      });
    }
  }
}

/**
 * Waits until all processes that run have the key that this one seals with: they could not open what it seals. One that was killed is
 * believed to run for a while. Throws an Error that names those that lack it.
 */
async function untilAllHave(
  [id, fingerprint]: readonly [id: string, fingerprint: string],
  { store, clock, log }: Pick<Resources, 'store' | 'clock' | 'log'>,
): Promise<void> {
  const deadline = clock.now() + holderLifeMs + announceMs;
  for (let isFirst = true; ; isFirst = false) {
    const lacking = (await store.masterKeys.holders())
      .filter(({ keys }) => !keys.some(([other, print]) => other === id && print === fingerprint))
      .map((holder) => holder.process);
    if (lacking.length === 0) return;
    const who = [...new Set(lacking)].join('; ');
    if (clock.now() > deadline)
      throw new Error(`MASTER_KEY: these run without this key "${id}": ${who}; give it to all, behind theirs, first`);
    if (isFirst) log.warn(`waiting for processes that run without master key "${id}" to end: ${who}`);
    await clock.sleep(lookAgainMs);
  }
}

/**
 * The box that opens secrets. Throws when the process was given no master key, or not those that the secrets in the store are sealed with:
 * better no start than orders that fail one after the other. Says from then on which keys the process has, as long as it is connected.
 */
export async function openSecretBox(
  resources: Pick<Resources, 'store' | 'redis' | 'clock' | 'log'>,
  config: Config<'secrets'>,
): Promise<SecretBox> {
  if (!config.MASTER_KEY) {
    throw new Error('MASTER_KEY is not set: make one with `openssl rand -base64 32` and give the same to all services');
  }
  const { masterKeys } = resources.store;
  const { given, box } = readKeys(config.MASTER_KEY);
  checkMasterKeys(config.MASTER_KEY, await masterKeys.proofs());
  const keys = [...given.keys].map(([id, key]): [string, string] => [id, fingerprintOf(key)]);
  const [sealing = ['', '']] = keys;
  await untilAllHave(sealing, resources);

  // Only now: a process that is refused must not leave a proof behind that refuses the right one.
  const holder = { process: `${hostname()}, pid ${process.pid}`, keys };
  const proof = box.seal(proofName, box.currentKeyId);
  const announce = (): Promise<void> => masterKeys.announce(holder, proof, holderLifeMs);
  await announce();
  // A restore looks for processes after it has said that it is there, and this one the other way round: one of the two sees the other.
  await refuseWhileRestoring(resources.store);
  // Two that came at the same moment, each with a key of its own under one id: the first proof counts.
  checkMasterKeys(config.MASTER_KEY, await masterKeys.proofs());
  const announcing = setInterval(() => void announce().catch(() => {}), announceMs);
  resources.redis.once('end', () => clearInterval(announcing));
  return box;
}
