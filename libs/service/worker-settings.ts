import type { Config } from '#libs/config';
import type { WorkerSettings } from '#libs/queues/stage-worker';
import type { Resources } from './resources.ts';

/** What every stage worker is built from. */
export function workerSettings(resources: Resources, config: Config<'pipeline'>): WorkerSettings {
  const { redis, store, producer, metrics, clock, log } = resources;
  return {
    redis,
    prefix: store.keys.tag,
    orders: store.orders,
    leases: store.leases,
    producer,
    metrics,
    clock,
    log,
    async parkAccount(id, { code, message }) {
      const account = await store.accounts.get(id);
      if (account === null || account.parked) return;
      await store.accounts.put({ ...account, parked: { code, detail: message, at: clock.now() } });
      log.error({ account: id, code }, `all orders of ${id} are held: ${message}`);
    },
    random: Math.random,
    retryDelayScale: config.RETRY_DELAY_SCALE,
    lockDuration: config.LOCK_DURATION_MS,
    stalledInterval: config.STALLED_INTERVAL_MS,
  };
}
