import { describe, expect, it } from 'vitest';
import { waitingTogether } from '#libs/challenges/record-awaited';
import { CertlineError } from '#libs/errors';

const awaited = (name: string, until: number): CertlineError =>
  new CertlineError('dns_record_awaited', `Make ${name}.`, {
    plan: { kind: 'wait', until },
    evidence: { records: [{ name, value: 'v' }] },
  });
const lagging = new CertlineError('dns_record_not_visible', 'ns2 lags', { plan: { kind: 'wait', until: 5 } });

describe('names of one order that wait', () => {
  it('are one error with all records that a person has to make, before what comes by itself, due when the first is', () => {
    expect(waitingTogether([lagging, awaited('a', 20), awaited('b', 10)])).toMatchObject({
      ...{ code: 'dns_record_awaited', message: 'Make a. Make b.', plan: { kind: 'wait', until: 5 } },
      evidence: { records: [{ name: 'a' }, { name: 'b' }] },
    });
  });

  it('say what the first says where nobody has to do anything', () => {
    const other = new CertlineError('dns_record_not_visible', 'ns3 lags', { plan: { kind: 'wait', until: 4 } });
    expect(waitingTogether([lagging, other])).toMatchObject({
      ...{ code: 'dns_record_not_visible', message: 'ns2 lags', plan: { kind: 'wait', until: 4 } },
    });
  });
});
