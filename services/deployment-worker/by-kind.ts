import type { Target } from '#libs/model/target';
import type { TargetHandler } from '#libs/queues/handler';

/** Gives the orders of a target to the handler of its kind, and says in the outcomes which kind that is. */
export function byKind(
  findTarget: (id: string) => Promise<Target | null>,
  { iis, delivery }: { iis: TargetHandler; delivery: TargetHandler },
): TargetHandler {
  return {
    // Only commits to IIS hosts can be left in the middle.
    unsettled: async (targetId) => (await iis.unsettled?.(targetId)) ?? false,
    inDoubt: async (targetId) => (await iis.inDoubt?.(targetId)) ?? new Set(),
    async run(targetId, orders, context) {
      const kind = (await findTarget(targetId))?.kind;
      const handler = kind === undefined || kind === 'iis' ? iis : delivery;
      const outcomes = await handler.run(targetId, orders, context);
      return kind === undefined ? outcomes : outcomes.map((outcome) => ({ ...outcome, kind }));
    },
  };
}
