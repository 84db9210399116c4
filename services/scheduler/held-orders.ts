import type { Logger } from '#libs/logging';
import type { Account } from '#libs/model/account';
import type { Credential } from '#libs/model/credential';
import { type ResumeDeps, resumeOrders } from '#libs/queues/resume-orders';
import type { RecordStore } from '#libs/store/records';

export interface HeldOrdersDeps extends ResumeDeps {
  accounts: Pick<RecordStore<Account>, 'list'>;
  credentials: Pick<RecordStore<Credential>, 'list'>;
  log: Logger;
}

/** Between two looks, ms: there is seldom anything to find. */
const everyMs = 60_000;

const isMended = (record: Account | Credential): boolean => 'parked' in record && record.parked === null;

/**
 * The rounds for orders that are held although nothing holds them: who mends an account or a credential lets its orders go on one by one, and
 * may die in between. Answers how many go on.
 */
export function createHeldOrdersRounds(deps: HeldOrdersDeps): () => Promise<number> {
  const { accounts, credentials, clock, log } = deps;
  let due = Number.NEGATIVE_INFINITY;

  async function look(records: Pick<RecordStore<Account | Credential>, 'list'>): Promise<number> {
    let count = 0;
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await records.list({ limit: 200, cursor });
      for (const { id } of page.records.filter(isMended)) {
        const resumed = await resumeOrders(id, deps);
        if (resumed > 0) log.info({ on: id, orders: resumed }, 'orders were held although it is mended: they go on');
        count += resumed;
      }
      cursor = page.cursor;
    }
    return count;
  }

  return async () => {
    if (clock.now() < due) return 0;
    due = clock.now() + everyMs;
    return (await look(accounts)) + (await look(credentials));
  };
}
