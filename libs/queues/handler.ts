import type { Clock } from '../clock.ts';
import type { CertlineError } from '../errors.ts';
import type { Logger } from '../logging.ts';
import type { DeployedOrder, IssuedOrder, PendingOrder, StageName, ValidatedOrder } from '../model/order.ts';
import type { TargetKind } from '../model/target.ts';
import type { Command } from '../store/redis.ts';

/** What each stage takes and leaves. */
export interface StageTypes {
  validation: { takes: PendingOrder; leaves: ValidatedOrder };
  issuance: { takes: ValidatedOrder; leaves: IssuedOrder };
  deployment: { takes: IssuedOrder; leaves: DeployedOrder };
}
export type Takes<S extends StageName> = StageTypes[S]['takes'];
export type Leaves<S extends StageName> = StageTypes[S]['leaves'];

/** What a handler is given besides the order. */
export interface StageContext<O> {
  clock: Clock;
  /** Has the order, stage and attempt in its fields. */
  log: Logger;
  /** Aborted when the process stops: throw its reason, the job is handed back. */
  signal: AbortSignal;
  /**
   * Saves what must not be done twice, with a line for people in the order's history and what is stored with it in one step, and answers
   * the order as it is now. Throws when somebody else has the order meanwhile: let that pass through.
   */
  checkpoint(changes: Partial<O>, progress?: string, also?: readonly Command[]): Promise<O>;
  /** The order as it was last saved. */
  current(): O;
}

/** A stage: says what happened by returning the order in its next status, or by throwing a `CertlineError`. May run twice at any line. */
export interface StageHandler<S extends StageName> {
  run(order: Takes<S>, context: StageContext<Takes<S>>): Promise<Leaves<S>>;
}

/** The deployment stage works on all orders that are due on a target at once: one commit to the host. */
export interface TargetHandler {
  run(
    target: string,
    orders: readonly IssuedOrder[],
    context: Pick<StageContext<never>, 'clock' | 'log' | 'signal'>,
  ): Promise<TargetOutcome[]>;
  /** Whether an earlier run left something on the target that a run makes up for, even one without orders. Cheap: asked at every wake. */
  unsettled?(target: string): Promise<boolean>;
  /** Orders whose certificate the target may have, though their attempt has failed. Asked after a run in which one has. */
  inDoubt?(target: string): Promise<ReadonlySet<string>>;
}

/** How it went for one of the orders: its next status, or the error. */
export type TargetOutcome = {
  id: string;
  /** For the metrics; absent where nobody looked, or the target is gone. */
  kind?: TargetKind;
} & (
  | { deployed: DeployedOrder /** Stored together with the order. */; also?: readonly Command[] }
  | { error: CertlineError }
);

/** Thrown by `checkpoint` when the order was changed by somebody else: this run is stale and must leave no trace. */
export class StaleOrder extends Error {
  override readonly name = 'StaleOrder';
}
