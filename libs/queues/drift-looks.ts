import type { Clock } from '../clock.ts';
import { asCertlineError, CertlineError } from '../errors.ts';
import type { Logger } from '../logging.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { Difference, DriftFinding, DriftReport } from '../model/drift.ts';
import type { Target } from '../model/target.ts';
import type { DriftReports } from '../store/drift-reports.ts';
import type { Leases } from '../store/leases.ts';
import type { UndoRecords } from '../store/undo-records.ts';
import { repairLimit, repairSpanMs } from './drift-repairs.ts';
import { deploymentLease } from './stages.ts';

/** Compares a target with what it should be. A host that cannot be looked at is a finding, too. */
export type DriftCheck = (target: Target, signal: AbortSignal) => Promise<DriftFinding>;

export interface DriftLooksDeps {
  check: DriftCheck;
  driftReports: Pick<DriftReports, 'save' | 'repairs'>;
  leases: Pick<Leases, 'hold'>;
  undo: Pick<UndoRecords, 'has'>;
  metrics: Pick<Metrics, 'driftChecks'>;
  clock: Clock;
  log: Logger;
  /** How long this process may be silent before another one has the target, ms. */
  lockDuration: number;
  /** How long a deployment under way is waited for, ms. */
  patienceMs?: number;
  /** What one comparison may take, ms. */
  limitMs?: number;
}

/** Looks at targets: what was found is kept, counted, logged and told. */
export interface DriftLooks {
  /**
   * A look at a target now. Throws `deployment_under_way` when what differs may be what a deployment changes at this moment,
   * `target_unknown` when the target was deleted meanwhile; an aborted signal's reason as it is.
   */
  look(target: Target, signal: AbortSignal): Promise<DriftReport>;
}

/** A deployment takes seconds; a request that asks for a look waits 30 s. */
const usualPatienceMs = 5_000;
const usualLimitMs = 120_000;
const askAgainMs = 250;

const placesOf = (differences: readonly Difference[]): string[] =>
  differences.map(({ place, detail }) => `${place}: ${detail}`);

export function createDriftLooks(deps: DriftLooksDeps): DriftLooks {
  const { check, driftReports, leases, undo, metrics, clock, log, lockDuration } = deps;
  const { patienceMs = usualPatienceMs, limitMs = usualLimitMs } = deps;

  async function find(target: Target, signal: AbortSignal): Promise<DriftFinding> {
    const deadline = AbortSignal.timeout(limitMs);
    let error: CertlineError;
    try {
      const finding = await check(target, AbortSignal.any([signal, deadline]));
      signal.throwIfAborted();
      return finding;
    } catch (thrown) {
      signal.throwIfAborted();
      const late = deadline.aborted && !(thrown instanceof CertlineError);
      error = late ? new CertlineError('target_timeout', `not done in ${limitMs / 1000} s`) : asCertlineError(thrown);
      if (error.code === 'unexpected') log.warn({ err: thrown, target: target.id }, 'the target cannot be looked at');
    }
    const { code, message: detail } = error;
    const nothing = { places: 0, differences: [] };
    return { target: target.id, checkedAt: clock.now(), state: 'unknown', ...nothing, error: { code, detail } };
  }

  /**
   * Differences count only when they were seen while nobody deploys there: they are looked at again under the lease of the target's
   * deployment, inside which the host and what it should have change together.
   */
  async function settled(target: Target, signal: AbortSignal): Promise<DriftFinding> {
    const first = await find(target, signal);
    if (first.state !== 'drifted') return first;
    const until = clock.now() + patienceMs;
    for (;;) {
      const held = await leases.hold(deploymentLease(target.id), lockDuration, async (lost) => {
        // What a dead worker left in the middle is put right by the next run.
        if (await undo.has(target.id)) return null;
        return find(target, AbortSignal.any([signal, lost])).catch((error: unknown) => {
          if (lost.aborted && !signal.aborted) return null;
          throw error;
        });
      });
      if (held !== null && held.result !== null) return held.result;
      if (clock.now() >= until)
        throw new CertlineError('deployment_under_way', `a deployment to ${target.name} is under way`);
      await clock.sleep(askAgainMs, signal);
    }
  }

  /** Says of places that were repaired again and again why they are left as they are. */
  async function withLimits(target: Target, finding: DriftFinding): Promise<DriftFinding> {
    if (target.drift !== 'repair' || finding.differences.length === 0) return finding;
    const repairs = await driftReports.repairs(target.id, finding.checkedAt - repairSpanMs);
    const differences = finding.differences.map((one) => {
      if ((repairs.get(one.place)?.length ?? 0) < repairLimit) return one;
      const why = `repaired ${repairLimit} times within 24 hours and changed again: it is only reported until 24 hours after the first of them`;
      return { ...one, detail: `${one.detail}; ${why}` };
    });
    return { ...finding, differences };
  }

  function tell(target: Target, { state, differences, error }: DriftReport): void {
    const about = { target: target.id, state };
    if (state === 'drifted')
      log.warn({ ...about, places: placesOf(differences) }, `${target.name} is not as it should be`);
    else if (error !== null) log.warn({ ...about, code: error.code }, `${target.name} cannot be looked at`);
    else log.info(about, `${target.name} is as it should be again`);
  }

  /** Looks under way, by target: whoever asks meanwhile is told the same, and no deployment waits for each of them. */
  const underWay = new Map<string, Promise<DriftReport>>();

  async function lookOnce(target: Target, signal: AbortSignal): Promise<DriftReport> {
    try {
      const finding = await withLimits(target, await settled(target, signal));
      const saved = await driftReports.save(finding);
      if (saved === null) throw new CertlineError('target_unknown', `there is no target ${target.id}`);
      metrics.driftChecks.inc({ outcome: saved.report.state });
      if (saved.news) tell(target, saved.report);
      return saved.report;
    } catch (thrown) {
      if (thrown instanceof CertlineError && thrown.code === 'deployment_under_way')
        metrics.driftChecks.inc({ outcome: 'deployment_under_way' });
      throw thrown;
    }
  }

  /** What the look of another finds; null when that one gave it up, which says nothing to who waits for it. */
  async function unlessGivenUp(other: Promise<DriftReport>, signal: AbortSignal): Promise<DriftReport | null> {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const abort = () => aborted.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    const found = other.catch((error: unknown) => {
      if (error instanceof CertlineError) throw error;
      return null;
    });
    try {
      return await Promise.race([found, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  return {
    async look(target, signal) {
      for (let other = underWay.get(target.id); other; other = underWay.get(target.id)) {
        const shared = await unlessGivenUp(other, signal);
        if (shared) return shared;
      }
      signal.throwIfAborted();
      const own = lookOnce(target, signal);
      underWay.set(target.id, own);
      try {
        return await own;
      } finally {
        if (underWay.get(target.id) === own) underWay.delete(target.id);
      }
    },
  };
}
