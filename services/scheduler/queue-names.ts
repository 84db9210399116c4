import type { Clock } from '#libs/clock';
import type { Logger } from '#libs/logging';
import { defaultPool, type Target } from '#libs/model/target';
import { deploymentQueue, driftQueue, rolloutQueue } from '#libs/queues/stages';
import type { RecordStore } from '#libs/store/records';

/** Targets read in one go. */
const limit = 200;
/** For how long the pools that were found are believed: all targets are read for them, ms. */
const believedMs = 30_000;

async function poolsOf(targets: Pick<RecordStore<Target>, 'list'>): Promise<string[]> {
  const pools = new Set([defaultPool]);
  let cursor: string | undefined;
  do {
    const page = await targets.list({ limit, cursor });
    for (const { pool } of page.records) pools.add(pool);
    cursor = page.cursor ?? undefined;
  } while (cursor !== undefined);
  return [...pools].sort();
}

/** Answers the names of all queues: those of the stages, with one of deployment and one of drift for each pool that a target names. */
export function createQueueNames(
  targets: Pick<RecordStore<Target>, 'list'>,
  clock: Clock,
  log: Logger,
): () => Promise<string[]> {
  let pools = [defaultPool];
  let readAt = Number.NEGATIVE_INFINITY;
  return async () => {
    if (clock.now() - readAt >= believedMs) {
      try {
        pools = await poolsOf(targets);
        readAt = clock.now();
      } catch (error) {
        // One record that cannot be read must not hide all other metrics.
        log.warn({ err: error }, 'the pools of the targets could not be read');
      }
    }
    return ['validation', 'issuance', ...pools.map(deploymentQueue), rolloutQueue, ...pools.map(driftQueue)];
  };
}
