import { z } from 'zod';
import { type DriftFinding, driftStates } from '../model/drift.ts';

/** Kinds of event in the life of a target. */
export const targetEventTypes = ['target_drifted', 'target_in_sync', 'target_unknown'] as const;

/** One thing that a look at a target showed. `at` is ms since the epoch; `id` tells it from every other event of a target. */
export const targetEventSchema = z.object({
  id: z.string(),
  target: z.string(),
  at: z.number(),
  type: z.enum(targetEventTypes),
  state: z.enum(driftStates),
  /** How many places are not as they should be. */
  differences: z.number().int(),
  code: z.string().optional(),
  detail: z.string(),
});
export type TargetEvent = z.infer<typeof targetEventSchema>;

/** Places that an event names; the others are counted. */
const named = 5;

function detailOf({ differences, error }: DriftFinding): string {
  if (error !== null) return `${error.code}: ${error.detail}`;
  if (differences.length === 0) return 'every place is as it should be';
  const more = differences.length > named ? ` and ${differences.length - named} more` : '';
  return `${differences
    .slice(0, named)
    .map(({ place, detail }) => `${place}: ${detail}`)
    .join('; ')}${more}`;
}

/** What is told of a target when its state is news. */
export function targetEvent(finding: DriftFinding): TargetEvent {
  const { target, checkedAt, state, differences, error } = finding;
  const type = state === 'drifted' || state === 'unknown' ? (`target_${state}` as const) : 'target_in_sync';
  return {
    ...{ id: `${target}-${checkedAt}`, target, at: checkedAt, type, state, differences: differences.length },
    ...(error === null ? {} : { code: error.code }),
    detail: detailOf(finding),
  };
}
