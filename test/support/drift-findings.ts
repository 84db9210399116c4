import type { Difference, DriftFinding } from '#libs/model/drift';

/** A place of a target that is not as it should be. */
export function difference(place: string, more: Partial<Difference> = {}): Difference {
  return {
    ...{ place, site: 'site1', order: 'ord_1', certificate: 'crt_1' },
    ...{ expected: { thumbprint: 'A'.repeat(40), store: 'My' }, actual: null },
    ...{ detail: 'the binding is gone', unrepairable: null },
    ...more,
  };
}

/** A look that found these differences; in sync without any. */
export function finding(
  target: string,
  differences: Difference[] = [],
  more: Partial<DriftFinding> = {},
): DriftFinding {
  return {
    ...{ target, checkedAt: 1_000, state: differences.length > 0 ? 'drifted' : 'in_sync', places: 3 },
    ...{ differences, error: null },
    ...more,
  };
}

/** A look that was not possible. */
export const unknown = (target: string, checkedAt: number): DriftFinding =>
  finding(target, [], {
    ...{ checkedAt, state: 'unknown', places: 0 },
    error: { code: 'target_unreachable', detail: 'no answer' },
  });

/** What a finding says of each place, with why it cannot be repaired. */
export const places = ({ differences }: Pick<DriftFinding, 'differences'>): string[] =>
  differences.map(
    ({ place, detail, unrepairable }) => `${place}: ${detail}${unrepairable ? ` — ${unrepairable}` : ''}`,
  );
