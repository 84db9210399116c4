import { CertlineError } from '#libs/errors';
import type { Target } from '#libs/model/target';
import type { CleanUps } from '#libs/store/clean-ups';
import type { OrderStore } from '#libs/store/orders';
import type { RecordStore } from '#libs/store/records';
import { credentialsOf } from './target-bodies.ts';

export interface CredentialUsersDeps {
  targets: Pick<RecordStore<Target>, 'list'>;
  orders: Pick<OrderStore, 'unfinishedWith'>;
  cleanUps: Pick<CleanUps, 'countOf'>;
}

/** Users that are named where a credential cannot be deleted. */
const named = 5;

function listed(users: readonly string[]): string {
  const more = users.length > named ? ` and ${users.length - named} more` : '';
  return `${users.slice(0, named).join(', ')}${more}`;
}

/** Names of the targets that use a credential. */
async function targetsWith(id: string, targets: CredentialUsersDeps['targets']): Promise<string[]> {
  const users: string[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await targets.list({ limit: 200, cursor });
    for (const target of page.records) {
      if (credentialsOf(target).some(({ credential }) => credential === id))
        users.push(`${target.name} (${target.id})`);
    }
    cursor = page.cursor;
  }
  return users;
}

/** Throws `record_in_use` with what would be lost without a credential; `leaveRecords`: TXT records may be. */
export async function requireUnused(
  id: string,
  leaveRecords: boolean,
  { targets, orders, cleanUps }: CredentialUsersDeps,
): Promise<void> {
  const users = await targetsWith(id, targets);
  if (users.length > 0) throw new CertlineError('record_in_use', `used by ${listed(users)}`);
  const unfinished = await orders.unfinishedWith(id);
  if (unfinished.length > 0)
    throw new CertlineError(
      'record_in_use',
      `unfinished orders need it: ${listed(unfinished.sort())}; cancel them first`,
    );
  const left = leaveRecords ? 0 : await cleanUps.countOf(id);
  if (left === 0) return;
  const what = left === 1 ? 'a TXT record is' : `${left} TXT records are`;
  throw new CertlineError(
    'record_in_use',
    `${what} still to be taken away with it, which may take a moment; to leave that to you, give leaveRecords=true`,
  );
}
