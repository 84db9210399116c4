import { describe, expect, it } from 'vitest';
import { createCaaChecks } from '#libs/dns/caa-checks';
import type { CaaRecord } from '#libs/dns/message';
import { CertlineError } from '#libs/errors';
import type { Account } from '#libs/model/account';
import type { AccountSession } from '#libs/service/account-sessions';
import { createCaaGuard } from '../../../services/validation-worker/caa-guard.ts';
import { fakeClock } from '../../support/fake-clock.ts';
import { orderRequest } from '../../support/sample-orders.ts';

const signal = new AbortController().signal;
const openSession = (account: Partial<Account>) =>
  ({
    account,
    accountUrl: 'https://ca.example/acct/1',
    directory: async () => ({ meta: { caaIdentities: ['ca.example'] } }),
  }) as unknown as AccountSession;
const closed: CaaRecord = { flags: 0, tag: 'issue', value: ';' };

/** What the guard throws for names, and how many look-ups it took. */
async function guarded(
  names: string[],
  answer: (name: string) => CaaRecord[],
  account: Partial<Account> = { allowInternalNames: false },
): Promise<{ error: unknown; lookups: number }> {
  let lookups = 0;
  const lookup = async (name: string) => {
    lookups += 1;
    return { records: answer(name) };
  };
  const guard = createCaaGuard({ caa: createCaaChecks({ lookup }, fakeClock(0)) });
  const error = await guard(orderRequest({ names }), openSession(account), signal).catch((thrown: unknown) => thrown);
  return { error, lookups };
}

describe('CAA before a CA is asked', () => {
  it('tells all names that it forbids in the evidence, and the first of them in words', async () => {
    const names = Array.from({ length: 7 }, (_, at) => `n${at}.example.com`);
    const { error } = await guarded([...names, 'open.example.com'], (name) => (names.includes(name) ? [closed] : []));
    expect(error).toMatchObject({ code: 'caa_forbids', plan: { kind: 'retryable', attempts: 6 } });
    const { message, evidence } = error as CertlineError;
    expect(Object.keys(evidence ?? {})).toEqual(names);
    expect(message).toMatch(
      /^CAA forbids it\. n0\.example\.com: .*; n4\.example\.com: [^;]*";" forbids every CA; 2 more$/,
    );
  });

  it('says what is forbidden even when another name cannot be looked up', async () => {
    const failing = new CertlineError('dns_lookup_failed', 'b.example.com (CAA) could not be looked up.');
    const answer = (name: string): CaaRecord[] => {
      if (name === 'b.example.com') throw failing;
      return name === 'a.example.com' ? [closed] : [];
    };
    expect((await guarded(['b.example.com', 'a.example.com'], answer)).error).toMatchObject({ code: 'caa_forbids' });
  });

  it('does not go on to other names when one cannot be looked up', async () => {
    const answer = (): CaaRecord[] => {
      throw new CertlineError('dns_lookup_failed', 'it could not be looked up.');
    };
    const names = Array.from({ length: 40 }, (_, at) => `n${at}.example.com`);
    const { error, lookups } = await guarded(names, answer);
    expect(error).toMatchObject({ code: 'dns_lookup_failed', plan: { kind: 'retryable' } });
    expect(lookups).toBe(4);
  });

  it('is not looked at for a private CA', async () => {
    const { error, lookups } = await guarded(['srv01'], () => [closed], { allowInternalNames: true });
    expect({ error, lookups }).toEqual({ error: undefined, lookups: 0 });
  });
});
