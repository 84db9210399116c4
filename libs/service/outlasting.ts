import { passes, redisTrouble } from '#libs/store/redis-trouble';
import type { Resources } from './resources.ts';

const againMs = 500;

/**
 * Does what a process needs of Redis before it can begin, again until Redis takes it: the connection of an API does not wait by itself. `work`
 * may run twice at any line. Throws what waiting does not mend.
 */
export async function outlasting<T>(work: () => Promise<T>, { clock }: Pick<Resources, 'clock'>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!passes(redisTrouble(error))) throw error;
      await clock.sleep(againMs);
    }
  }
}
