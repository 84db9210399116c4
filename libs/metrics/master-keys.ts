import { Gauge, type Registry } from 'prom-client';

/** @param readLeft counts by the id of the master key that secrets are sealed with, when it is to go */
export function registerMasterKeyMetric(registry: Registry, readLeft: () => Promise<Record<string, number>>): void {
  new Gauge({
    name: 'certline_master_key_secrets',
    help: 'Secrets that are still sealed with a master key that is to go; absent when none is.',
    labelNames: ['key'],
    registers: [registry],
    async collect() {
      const left = Object.entries(await readLeft());
      this.reset();
      for (const [key, count] of left) this.set({ key }, count);
    },
  });
}
