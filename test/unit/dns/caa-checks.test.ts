import { describe, expect, it } from 'vitest';
import { createCaaChecks } from '#libs/dns/caa-checks';
import type { CaaRecord } from '#libs/dns/message';
import { fakeClock } from '../../support/fake-clock.ts';

const signal = new AbortController().signal;
const question = { issuerDomains: ['ca.example'], accountUri: null, method: null };
const forbids: CaaRecord = { flags: 0, tag: 'issue', value: ';' };
const allows: CaaRecord = { flags: 0, tag: 'issue', value: 'ca.example' };

/** A DNS of CAA records alone, which notes what it is asked for. */
function dnsWith(records: Record<string, CaaRecord[]>) {
  const asked: string[] = [];
  const clock = fakeClock(0);
  const checks = createCaaChecks(
    {
      async lookup(name) {
        asked.push(name);
        return { records: records[name] ?? [] };
      },
    },
    clock,
  );
  /** Which of the names of one order are allowed, and what was asked for that. */
  async function look(...names: string[]): Promise<{ allowed: string[]; asked: string[] }> {
    asked.length = 0;
    const view = checks.view(names, signal);
    const verdicts = await Promise.all(names.map((name) => view.check(name, question)));
    return { allowed: names.filter((_, at) => verdicts[at]?.allowed), asked: [...asked] };
  }
  return { records, clock, look };
}

describe('CAA of many orders', () => {
  it('is looked up once for each name on the way up, however many names of an order share it', async () => {
    const { look } = dnsWith({});
    const names = ['a.example.com', 'b.example.com', '*.example.com'];
    const { allowed, asked } = await look(...names);
    expect(allowed).toEqual(names);
    expect(asked.sort()).toEqual(['a.example.com', 'b.example.com', 'com', 'example.com']);
  });

  it('costs the next order of the domain a look at its own name, for a minute', async () => {
    const { look, clock } = dnsWith({});
    await look('a.example.com');
    expect((await look('b.example.com')).asked).toEqual(['b.example.com']);
    // The domain itself is not believed to have nothing when it is ordered.
    expect((await look('example.com')).asked).toEqual(['example.com']);
    clock.advance(60_000);
    expect((await look('b.example.com')).asked).toEqual(['b.example.com', 'example.com', 'com']);
  });

  it('is asked for each time where there are records', async () => {
    const { look, records } = dnsWith({ 'example.com': [forbids] });
    expect(await look('a.example.com')).toEqual({ allowed: [], asked: ['a.example.com', 'example.com'] });
    records['example.com'] = [allows];
    expect((await look('a.example.com')).allowed).toEqual(['a.example.com']);
  });

  it('forbids nothing by what it has kept: a record that allows may be there since', async () => {
    const { look, records } = dnsWith({ com: [forbids] });
    expect((await look('a.b.example.com')).allowed).toEqual([]);
    records['example.com'] = [allows];
    expect(await look('a.b.example.com')).toEqual({
      allowed: ['a.b.example.com'],
      asked: ['a.b.example.com', 'com', 'b.example.com', 'example.com'],
    });
  });
});
