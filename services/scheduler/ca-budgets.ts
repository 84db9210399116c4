import type { BudgetLeft } from '#libs/metrics/ca-budget';
import { caLabel } from '#libs/model/account';
import { type CaLimits, caLimitNames } from '#libs/model/ca-limits';
import type { CaBudget } from '#libs/store/ca-budget';

/** Reads what is left of every limit there is: one look at each, whatever they count; of one that is held since the CA said so, nothing. */
export function createBudgetReader(
  budget: Pick<CaBudget, 'remaining' | 'held'>,
  limits: ReadonlyMap<string, CaLimits>,
): () => Promise<BudgetLeft[]> {
  return async () => {
    const reads = [...limits].flatMap(([directory, rates]) =>
      caLimitNames.flatMap((limit) => {
        const rate = rates[limit];
        return rate
          ? [budget.remaining(directory, limit, rate).then((ratio) => ({ ca: caLabel(directory), limit, ratio }))]
          : [];
      }),
    );
    const held = budget
      .held()
      .then((all) => all.map(({ directory, limit }) => ({ ca: caLabel(directory), limit, ratio: 0 })));
    return [...(await Promise.all(reads)), ...(await held)];
  };
}
