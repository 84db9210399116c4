import type { PlaceKind } from './kind.ts';

/** A webhook: each certificate is told at least once, and whoever is told twice can see it. */
export const webhook: PlaceKind = {
  share: 0.15,
  deploy: ({ receiver: { target } }) => ({ target }),
  async audit({ receiver }, ended) {
    const wrong = [...receiver.wrong];
    const byName = Map.groupBy(receiver.deliveries, ({ name }) => name);
    for (const { plan, order, thumbprint } of ended) {
      const its = byName.get(plan.name) ?? [];
      byName.delete(plan.name);
      if (order.status === 'deployed' && !its.some(({ taken }) => taken))
        wrong.push(`nobody has taken the delivery of ${plan.name}`);
      const ids = new Set(its.map(({ id }) => id));
      if (ids.size > 1) wrong.push(`${plan.name} was delivered as ${[...ids].join(' and as ')}`);
      for (const one of its)
        if (one.thumbprint !== thumbprint)
          wrong.push(`${one.thumbprint} was delivered for ${plan.name}, not ${thumbprint}`);
    }
    return [...wrong, ...[...byName.keys()].map((name) => `${name} was delivered, not planned`)];
  },
};
