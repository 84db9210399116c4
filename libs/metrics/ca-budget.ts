import { Gauge, type Registry } from 'prom-client';

/** What is left of a limit of a CA. */
export interface BudgetLeft {
  ca: string;
  limit: string;
  ratio: number;
}

/** The gauge of the budgets of the CAs, read when scraped. One process (the scheduler) serves it; of two CAs with one label the lesser counts. */
export function registerCaBudgetMetric(registry: Registry, read: () => Promise<readonly BudgetLeft[]>): void {
  new Gauge({
    name: 'certline_ca_budget_remaining_ratio',
    help: 'What is left of a limit of the CA for the account, domain, set of names or name that has used most of it: 1 is all, at 0 orders wait.',
    labelNames: ['ca', 'limit'],
    registers: [registry],
    async collect() {
      const all = await read();
      this.reset();
      // The least last: it is the one that stays.
      for (const { ca, limit, ratio } of all.toSorted((a, b) => b.ratio - a.ratio)) this.set({ ca, limit }, ratio);
    },
  });
}
