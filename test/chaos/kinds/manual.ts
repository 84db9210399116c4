import { isFinal } from '#libs/model/order';
import { never } from '../../support/dns-providers.ts';
import { recordsLeft } from './dns-01.ts';
import { type OpenOrder, type ProofKind, plainName } from './kind.ts';

const lookMs = 300;
interface Wanted {
  name: string;
  value: string;
}
const textOf = ({ name, value }: Wanted): string => `${name} TXT "${value}"`;

/** The records that the API shows, and whether there will be no others. */
async function shown({ client, plan: { id } }: OpenOrder): Promise<Wanted[]> {
  return (await client.ask('GET', `/v1/orders/${id}`)).body.records as Wanted[];
}

/** A person: makes what is wanted after a while, says so or not, and takes away what is said to be removable. */
async function makeRecords(open: OpenOrder): Promise<void> {
  const { world, client, store, plan, wait } = open;
  const made = new Map<string, Wanted>();
  for (;;) {
    // Before the events are read: what it has dropped by then is in them.
    const order = await store.orders.get(plan.id);
    const events = await store.history(plan.id);
    const removable = events.flatMap(({ type, detail }) =>
      type === 'records_removable' ? (detail ?? '').split('; ') : [],
    );
    for (const [text, record] of made) {
      if (!removable.includes(text)) continue;
      await world.zone.records.cleanUp({ zone: world.zone.name, ...record }, never);
      made.delete(text);
    }
    if (order !== null && isFinal(order) && !(plan.client === 'retries' && order.status === 'failed')) return;
    const missing = (await shown(open)).filter((one) => !made.has(textOf(one)));
    if (missing.length > 0) {
      await wait(plan.thinksMs);
      const still = (await shown(open)).map(textOf);
      for (const { name, value } of missing.filter((one) => still.includes(textOf(one)))) {
        await world.zone.records.present({ zone: world.zone.name, name, value }, never);
        made.set(textOf({ name, value }), { name, value });
      }
      if (plan.continues) await client.ask('POST', `/v1/orders/${plan.id}/continue`);
    }
    await wait(lookMs);
  }
}

/** dns-01, whose records a person makes. */
export const manual: ProofKind = {
  share: 0.1,
  name: plainName,
  challenge: () => ({ type: 'dns-01', manual: true }),
  act: makeRecords,
  async audit(world, ended) {
    // A person who was not told leaves the record there.
    return recordsLeft(world, ended);
  },
};
