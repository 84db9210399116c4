import { describe, expect, it } from 'vitest';
import { changeOf, changesSingleRecords, isServed, setOf } from '#libs/dns/powerdns-records';

const name = '_acme-challenge.example.com';
const add = { value: 'mine', present: true, ttlSeconds: 60, single: false };
const served = (...values: string[]) => values.map((value) => ({ content: `"${value}"`, disabled: false }));

describe('a record set of PowerDNS', () => {
  it.each([
    ['4.7.3', false],
    ['4.9.11', false],
    ['4.9.12', true],
    ['4.10.0', true],
    ['5.0.0', false],
    ['5.0.1', false],
    ['5.0.2', true],
    ['5.1.0-alpha1', true],
    ['6.0.0', true],
    ['3.4.11', false],
    ['git-abcdef', false],
    ['', false],
  ])('is changed by single records with version %s: %s', (version, is) => {
    expect(changesSingleRecords(version)).toBe(is);
  });

  it('is written back with the values of others, and with its TTL', () => {
    const set = { ttl: 300, records: [...served('theirs'), { content: '"off"', disabled: true }] };
    expect(changeOf(name, set, add)).toEqual({
      ...{ name: `${name}.`, type: 'TXT', ttl: 300, changetype: 'REPLACE' },
      records: [...set.records, ...served('mine')],
    });
    expect(
      changeOf(name, { ...set, records: [...set.records, ...served('mine')] }, { ...add, present: false }),
    ).toEqual({ name: `${name}.`, type: 'TXT', ttl: 300, changetype: 'REPLACE', records: set.records });
  });

  it('is changed by the one record where the server can, but not beside a disabled one, which that would drop', () => {
    const set = { ttl: 300, records: served('theirs') };
    const head = { name: `${name}.`, type: 'TXT', ttl: 300, records: served('mine') };
    expect(changeOf(name, set, { ...add, single: true })).toEqual({ ...head, changetype: 'EXTEND' });
    expect(changeOf(name, set, { ...add, single: true, present: false })).toEqual({ ...head, changetype: 'PRUNE' });
    const withDisabled = { ttl: 300, records: [{ content: '"off"', disabled: true }] };
    expect(changeOf(name, withDisabled, { ...add, single: true })).toMatchObject({ changetype: 'REPLACE' });
  });

  it('begins with our TTL', () => {
    expect(changeOf(name, { ttl: null, records: [] }, add)).toMatchObject({ ttl: 60 });
  });

  it('is found in a whole zone, whatever the case of its name', () => {
    const rrsets = [
      { name: `${name}.`, type: 'A', ttl: 1, records: served('a') },
      { name: `www.${name}.`, type: 'TXT', ttl: 1, records: served('b') },
      { name: `_ACME-challenge.Example.com.`, type: 'TXT', ttl: 9, records: served('c') },
    ];
    const zone = { dnssec: false, api_rectify: false, rrsets };
    expect(setOf(zone, name)).toEqual({ ttl: 9, records: served('c') });
    expect(setOf({ ...zone, rrsets: [] }, name)).toEqual({ ttl: null, records: [] });
  });

  it('serves a value that is in it and not disabled', () => {
    const records = [...served('one'), { content: '"two"', disabled: true }];
    expect([isServed({ ttl: 1, records }, 'one'), isServed({ ttl: 1, records }, 'two')]).toEqual([true, false]);
  });
});
