import { defaultPool } from '#libs/model/target';
import { deploymentQueue, driftQueue, rolloutQueue } from '#libs/queues/stages';
import type { TargetStore } from '#libs/store/store';

/** Answers the names of all queues: those of the stages, with one of deployment and one of drift for each pool that a target names. */
export function createQueueNames(targets: Pick<TargetStore, 'pools'>): () => Promise<string[]> {
  return async () => {
    const pools = [...(await targets.pools()).add(defaultPool)].sort();
    return ['validation', 'issuance', ...pools.map(deploymentQueue), rolloutQueue, ...pools.map(driftQueue)];
  };
}
