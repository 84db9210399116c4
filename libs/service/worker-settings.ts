import type { Config } from '#libs/config';
import type { Account } from '#libs/model/account';
import type { DnsCredential } from '#libs/model/credential';
import type { WorkerSettings } from '#libs/queues/stage-worker';
import type { Resources } from './resources.ts';

/** What every stage worker is built from. */
export function workerSettings(resources: Resources, config: Config<'pipeline'>): WorkerSettings {
  const { redis, store, producer, metrics, clock, log } = resources;

  async function isParked(on: string): Promise<boolean> {
    const [credential, account] = [await store.credentials.get(on), await store.accounts.get(on)];
    return (credential?.kind === 'dns' ? credential.parked : account?.parked) !== null;
  }

  return {
    redis,
    prefix: store.keys.tag,
    orders: store.orders,
    leases: store.leases,
    producer,
    metrics,
    clock,
    log,
    async park(on, { code, message }) {
      const parked = { code, detail: message, at: clock.now() };
      if (await isParked(on)) return;
      let isFirst = false;
      const note = <T extends Account | DnsCredential>(one: T): T => {
        isFirst = !one.parked;
        return one.parked ? one : { ...one, parked };
      };
      const isCredential = await store.credentials.update(on, (one) => (one.kind === 'dns' ? note(one) : one));
      if (!isCredential) await store.accounts.update(on, note);
      // Of many orders that meet it at the same time one tells.
      if (isFirst) log.error({ on, code }, `all orders of ${on} are held: ${message}`);
    },
    isParked,
    random: Math.random,
    retryDelayScale: config.RETRY_DELAY_SCALE,
    lockDuration: config.LOCK_DURATION_MS,
    stalledInterval: config.STALLED_INTERVAL_MS,
  };
}
