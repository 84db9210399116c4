export const planKinds = ['permanent', 'retryable', 'wait', 'restart', 'park'] as const;
export type PlanKind = (typeof planKinds)[number];

export interface ErrorCodeEntry {
  /** HTTP status when the API answers with it. */
  status: number;
  /** The usual plan of a stage; a thrower who knows more (a Retry-After, say) gives another. */
  plan: Exclude<PlanKind, 'wait'>;
  title: string;
  /** What a person does next. */
  advice: string;
}

/** An entry of the registry. */
export const entry = (status: number, plan: ErrorCodeEntry['plan'], title: string, advice: string): ErrorCodeEntry => ({
  status,
  plan,
  title,
  advice,
});
