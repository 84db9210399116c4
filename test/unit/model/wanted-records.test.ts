import { describe, expect, it } from 'vitest';
import type { OrderError, PendingOrder, PresentedDns } from '#libs/model/order';
import { continued, failed, validated } from '#libs/model/transitions';
import { wantedRecords } from '#libs/model/wanted-records';
import { recordEvents } from '#libs/store/record-events';
import { acmeOrder, failure, pendingOrder, placedAt } from '../../support/sample-orders.ts';

const record = (name: string, more: Partial<PresentedDns> = {}): PresentedDns => ({
  ...{ type: 'dns-01', name, expires: 0, credential: null, zone: 'example.com', since: 0 },
  ...{ record: `_acme-challenge.${name}`, value: `value of ${name}`, ...more },
});
const [a, b] = [record('a.example.com'), record('b.example.com')];
const ofProvider = record('c.example.com', { credential: 'cred_1' });
const missing = (...records: PresentedDns[]): OrderError => ({
  ...{ code: 'dns_record_awaited', detail: 'Make it.', stage: 'validation', at: placedAt },
  evidence: { records: records.map(({ record: name, value }) => ({ name, value, sights: [] })) },
});
const shown = (one: PresentedDns) => ({ type: 'TXT', name: one.record, value: one.value });
const typesOf = (previous: PendingOrder, next: Parameters<typeof recordEvents>[1]) =>
  recordEvents(previous, next).map(({ type, detail }) => `${type}: ${detail}`);

describe('the records that a person has to make', () => {
  it('are those that no credential writes, all at once, in the sequence of the order’s names', () => {
    for (const presented of [
      [a, ofProvider, b],
      [b, a],
    ])
      expect(wantedRecords(pendingOrder({ presented }))).toEqual([shown(a), shown(b)]);
  });

  it('say which of them were seen, after a look', () => {
    expect(wantedRecords(pendingOrder({ presented: [a, b], error: missing(b) }))).toEqual([
      { ...shown(a), visible: true },
      { ...shown(b), visible: false },
    ]);
    expect(wantedRecords(pendingOrder({ presented: [a], error: failure }))).toEqual([shown(a)]);
  });

  it('are wanted no more when the order is validated or has failed', () => {
    const order = pendingOrder({ presented: [a], error: missing(a) });
    expect(wantedRecords(validated(order, acmeOrder, placedAt))).toEqual([]);
    expect(wantedRecords(failed(order, 'validation', failure, placedAt))).toEqual([]);
  });
});

describe('the events about records', () => {
  const presented = pendingOrder({ presented: [a] });
  const waiting = pendingOrder({ presented: [a], error: missing(a) });

  it('say once that they are wanted: when one was missed for the first time, and when others are wanted', () => {
    expect(typesOf(pendingOrder(), presented)).toEqual([]);
    expect(typesOf(presented, waiting)).toEqual([`records_wanted: ${a.record} TXT "${a.value}"`]);
    expect(typesOf(waiting, { ...waiting, nextAttemptAt: 5 })).toEqual([]);
    const both = pendingOrder({ presented: [a, b], error: missing(a, b) });
    expect(typesOf(both, { ...both, presented: [b, a] })).toEqual([]);
    const moved = { ...a, record: 'elsewhere.example.org' };
    expect(typesOf(waiting, pendingOrder({ presented: [moved], error: missing(moved) }))).toEqual([
      `records_wanted: elsewhere.example.org TXT "${a.value}"`,
      `records_removable: ${a.record} TXT "${a.value}"`,
    ]);
  });

  it('say that they may go when the order needs them no more, whatever became of it', () => {
    const removable = [`records_removable: ${a.record} TXT "${a.value}"`];
    expect(typesOf(waiting, validated(waiting, acmeOrder, placedAt))).toEqual(removable);
    expect(typesOf(waiting, failed(waiting, 'validation', failure, placedAt))).toEqual(removable);
  });

  it('leave those of dns-persist-01 and of providers', () => {
    const kept = pendingOrder({ presented: [{ ...a, type: 'dns-persist-01' }, ofProvider] });
    expect(typesOf(kept, validated(kept, acmeOrder, placedAt))).toEqual([]);
  });
});

describe('an order that is continued by hand', () => {
  it('is due at once with a job of its own, and has no more time than before', () => {
    const order = pendingOrder({ presented: [a], error: missing(a), nextAttemptAt: placedAt + 300_000 });
    expect(continued(order, placedAt + 1)).toEqual({
      ...order,
      ...{ epoch: 2, updatedAt: placedAt + 1, nextAttemptAt: null },
    });
  });
});
