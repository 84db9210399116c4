import type { Clock } from '#libs/clock';
import type { Logger } from '#libs/logging';
import type { Target } from '#libs/model/target';
import type { Producer } from '#libs/queues/producer';
import type { DriftSchedule } from '#libs/store/drift-schedule';

export interface DriftScheduleDeps {
  schedule: DriftSchedule;
  findTarget(id: string): Promise<Target | null>;
  producer: Pick<Producer, 'lookForDrift'>;
  clock: Clock;
  log: Logger;
  /** Time between two looks at a target, ms; 0 looks at none. */
  intervalMs: number;
  /** In [0, 1). */
  random: () => number;
}

/** Targets taken up in one round. */
const batch = 500;
/** How often targets are looked for that are new, or gone, ms. */
const sweepMs = 60_000;
/** Targets that are new together are looked at one after the other, at this distance, ms. */
const spreadMs = 1_000;
/** Targets looked at at the same time once are not so for ever. */
const jitter = 0.1;

/**
 * The rounds of the looks at all targets: whatever is due is asked for in the queue of its pool, and is due again an interval later. What
 * waits in a queue already is not asked for again. Answers how many were asked for; two schedulers at once do no harm.
 */
export function createDriftRounds(deps: DriftScheduleDeps): () => Promise<number> {
  const { schedule, findTarget, producer, clock, log, intervalMs, random } = deps;
  let sweptAt = Number.NEGATIVE_INFINITY;

  /** Brings the schedule up to date with the targets that there are, and with the interval. */
  async function sweep(now: number): Promise<void> {
    await schedule.prune();
    const missing = await schedule.missing();
    const span = Math.min(intervalMs, missing.length * spreadMs);
    await schedule.add(missing.map((target) => ({ target, at: Math.round(now + random() * span) })));
    for (const target of await schedule.after(now + intervalMs * (1 + jitter)))
      await schedule.sooner(target, Math.round(now + random() * intervalMs));
  }

  async function ask(id: string): Promise<boolean> {
    try {
      const target = await findTarget(id);
      if (target === null) return false;
      await producer.lookForDrift(id, target.pool);
      return true;
    } catch (error) {
      // One record that cannot be read must not hold up the others.
      log.warn({ err: error, target: id }, 'a look at the target could not be asked for');
      return false;
    }
  }

  return async () => {
    if (intervalMs === 0) return 0;
    const now = clock.now();
    if (now - sweptAt >= sweepMs) {
      await sweep(now);
      sweptAt = now;
    }
    let asked = 0;
    for (const id of await schedule.due(now, batch)) {
      if (await ask(id)) asked += 1;
      // Afterwards: a look that was asked for twice is one.
      await schedule.put(id, Math.round(now + intervalMs * (1 - jitter + 2 * jitter * random())));
    }
    return asked;
  };
}
