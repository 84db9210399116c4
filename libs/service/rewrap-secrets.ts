import type { Logger } from '#libs/logging';
import type { Leases } from '#libs/store/leases';
import type { MasterKeyRecords, SealedSecret } from '#libs/store/master-key-records';
import type { SecretBox } from '#libs/store/secret-box';

export interface RewrapDeps {
  masterKeys: MasterKeyRecords;
  box: SecretBox;
  leases: Pick<Leases, 'hold'>;
  log: Logger;
}

/** Keys of Redis that are looked at in one go. */
const pageSize = 200;
/** The lease of a process that died is free after this. */
const leaseMs = 3_000;

/**
 * Rounds that seal every secret with the current master key once there is another one that secrets are sealed with, and then forget that one:
 * only the wrapped key of each envelope is changed, no secret is opened. May be cut off at any line and run by many processes: each secret is
 * changed by compare-and-set, and the next round goes on.
 */
export function createRewrapping({ masterKeys, box, leases, log }: RewrapDeps): (signal: AbortSignal) => Promise<void> {
  const { currentKeyId } = box;
  let said = '';
  /** A round comes every few seconds: what has not changed is not said again. */
  function say(level: 'info' | 'warn' | 'error', message: string): void {
    if (message !== said) log[level](message);
    said = message;
  }

  /** Pages of secrets that another key has sealed, or that are none. */
  async function* others(signal: AbortSignal): AsyncGenerator<SealedSecret[]> {
    let cursor: string | null = '0';
    while (cursor !== null) {
      const page: { secrets: SealedSecret[]; cursor: string | null } = await masterKeys.page(cursor, pageSize);
      signal.throwIfAborted();
      cursor = page.cursor;
      yield page.secrets.filter(({ blob }) => keyIdOf(blob) !== currentKeyId);
    }
  }

  function keyIdOf(blob: string): string {
    try {
      return box.keyIdOf(blob);
    } catch {
      return 'unknown';
    }
  }

  async function rewrapAll(olds: readonly string[], signal: AbortSignal): Promise<void> {
    const left = new Map(olds.map((id) => [id, 0]));
    const add = (id: string, count: number): unknown => left.set(id, (left.get(id) ?? 0) + count);
    for await (const secrets of others(signal)) for (const { blob } of secrets) add(keyIdOf(blob), 1);
    await masterKeys.setLeft(left);
    const words = (): string => [...left].map(([id, count]) => `${count} of "${id}"`).join(', ');
    log.info(`sealing secrets with master key "${currentKeyId}": ${words()} left`);

    const unreadable: string[] = [];
    for await (const secrets of others(signal)) {
      const changes: { from: SealedSecret; to: string }[] = [];
      for (const from of secrets) {
        try {
          changes.push({ from, to: box.rewrap(from.name, from.blob) });
        } catch {
          unreadable.push(from.name);
        }
      }
      await masterKeys.replace(changes);
      for (const { from } of changes) add(keyIdOf(from.blob), -1);
      await masterKeys.setLeft(left);
      if (changes.length > 0) log.info(`sealing secrets with master key "${currentKeyId}": ${words()} left`);
    }
    if (unreadable.length > 0) {
      const some = unreadable.slice(0, 5).join(', ');
      say('error', `${unreadable.length} secrets cannot be opened with the master keys given, such as ${some}`);
    } else if (await masterKeys.retireOthers(currentKeyId)) {
      const retired = olds.map((id) => `"${id}"`).join(', ');
      say('info', `no secret is sealed with master key ${retired} any more: take it out of MASTER_KEY`);
    }
  }

  return async (signal) => {
    const olds = Object.keys(await masterKeys.proofs()).filter((id) => id !== currentKeyId);
    if (olds.length === 0) return;
    // While one of them still seals with another key there would be no end to it.
    const sealers = (await masterKeys.holders()).filter(({ keys: [first] }) => first?.[0] !== currentKeyId);
    if (sealers.length > 0) {
      const who = [...new Set(sealers.map((holder) => holder.process))].join('; ');
      say('info', `secrets are sealed with master key "${currentKeyId}" once these do so too: ${who}`);
      return;
    }
    await leases.hold('rewrapping', leaseMs, (lost) => rewrapAll(olds, AbortSignal.any([signal, lost])));
  };
}
