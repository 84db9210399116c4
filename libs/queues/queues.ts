import { Queue } from 'bullmq';
import type { RedisClient } from '../store/redis.ts';

/** Jobs that ended are kept for a while: a re-run of the step that added them then adds nothing. */
export const keepJobs = {
  removeOnComplete: { age: 3600, count: 10_000 },
  removeOnFail: { age: 7 * 86_400, count: 10_000 },
};

export interface QueueConnection {
  /** Stays the caller's. */
  redis: RedisClient;
  /** The store's hash tag. */
  prefix: string;
  onError: (error: Error) => void;
}

/** The queues that a process adds jobs to, by name. */
export interface Queues {
  /** Opened when it is first asked for: which pools there are is known from the targets alone. */
  of(name: string): Queue;
  close(): Promise<void>;
}

export function openQueues({ redis, prefix, onError }: QueueConnection): Queues {
  const open = new Map<string, Queue>();
  return {
    of(name) {
      let queue = open.get(name);
      if (queue === undefined) {
        queue = new Queue(name, { connection: redis, prefix, defaultJobOptions: keepJobs });
        queue.on('error', onError);
        open.set(name, queue);
      }
      return queue;
    },
    async close() {
      await Promise.all([...open.values()].map((queue) => queue.close()));
    },
  };
}
