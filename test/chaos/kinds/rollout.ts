import { isWindingDown } from '#libs/model/order';
import type { PlaceKind } from './kind.ts';

/** All hosts, in two waves. Their bindings are looked at with those of the other orders. */
export const rollout: PlaceKind = {
  share: 0.1,
  deploy: ({ hosts }, { sites, firstWave }) => ({
    targets: sites.map(({ host, site }) => ({ target: hosts[host]?.target, site })),
    waves: [firstWave, 'rest'],
  }),
  async audit(_world, ended) {
    return ended.flatMap(({ plan: { name }, order }) => {
      const statuses = order.deployments.map(({ status }) => status);
      const are = `the targets of ${name}, which is ${order.status}, are ${statuses.join(', ')}`;
      if (isWindingDown(order)) return [are];
      if (order.status === 'deployed') return statuses.every((status) => status === 'deployed') ? [] : [are];
      return statuses.every((status) => status !== 'failed') ? [] : [are];
    });
  },
};
