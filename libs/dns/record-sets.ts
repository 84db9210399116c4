import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';

/** Waits between the tries, in ms: somebody else changes the same record set, or reads lag behind writes. */
const pausesMs = [100, 300, 900, 2700];

/** The TXT record set of a name at a provider that writes record sets as a whole. `Item` is one value as the provider has it. */
export interface RecordSetApi<Item, Version> {
  /** For people: `Route 53: _acme-challenge.example.com`. */
  what: string;
  clock: Clock;
  read(): Promise<{ items: readonly Item[]; version: Version }>;
  /** Writes the items, none at all to delete the set, on the condition that the set is still `version`. False when it is not. */
  write(items: readonly Item[], version: Version): Promise<boolean>;
  valueOf(item: Item): string;
  itemOf(value: string): Item;
}

async function change<Item, Version>(
  set: RecordSetApi<Item, Version>,
  edit: (items: readonly Item[]) => readonly Item[],
  signal: AbortSignal,
): Promise<void> {
  for (const pause of [...pausesMs, null]) {
    const { items, version } = await set.read();
    const wanted = edit(items);
    if (wanted.length === items.length || (await set.write(wanted, version))) return;
    if (pause !== null) await set.clock.sleep(pause, signal);
  }
  throw new CertlineError(
    'dns_provider_busy',
    `${set.what}: the record set was changed by others each time between reading and writing`,
  );
}

/** Adds the value; the others stay as they are. Reads again and repeats when the set was changed meanwhile. */
export function addValue<Item, Version>(
  set: RecordSetApi<Item, Version>,
  value: string,
  signal: AbortSignal,
): Promise<void> {
  const hasIt = (item: Item): boolean => set.valueOf(item) === value;
  return change(set, (items) => (items.some(hasIt) ? items : [...items, set.itemOf(value)]), signal);
}

/** Takes the value away; the others stay as they are. */
export function removeValue<Item, Version>(
  set: RecordSetApi<Item, Version>,
  value: string,
  signal: AbortSignal,
): Promise<void> {
  return change(set, (items) => items.filter((item) => set.valueOf(item) !== value), signal);
}
