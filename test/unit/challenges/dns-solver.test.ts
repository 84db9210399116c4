import { describe, expect, it } from 'vitest';
import { createDnsSolver } from '#libs/challenges/dns-solver';
import type { OpenChallenge } from '#libs/challenges/solver';
import type { Sight, ValueQuestion } from '#libs/dns/authoritative';
import type { DnsProvider } from '#libs/dns/dns-provider';
import { CertlineError } from '#libs/errors';
import type { DnsChallengeType } from '#libs/model/challenge-method';
import { fakeClock } from '../../support/fake-clock.ts';

const { signal } = new AbortController();
const clock = fakeClock();
const zone = { name: 'record.elsewhere.org', zone: 'elsewhere.org', chain: [], nameservers: [] };
const challenge: OpenChallenge = {
  ...{ name: '*.example.org', token: 't', keyAuthorization: 't.k', expires: clock.now() + 3_600_000 },
  ...{ accountUrl: 'https://ca.example/account/1', issuerDomains: ['ca.example'] },
};
const persistent = 'ca.example; accounturi=https://ca.example/account/1; policy=wildcard';

/** A solver over one name server with these values, and what it has written. */
function solverThat(options: {
  type?: DnsChallengeType;
  has?: string[];
  delegatedName?: string;
  byHand?: true;
  refuses?: Error;
}) {
  const { type = 'dns-01', has = [], delegatedName, byHand, refuses } = options;
  const written: string[] = [];
  let opened = 0;
  const provider: DnsProvider = {
    present: async ({ name, value }) => {
      if (refuses) throw refuses;
      written.push(`${name} ${value}`);
    },
    cleanUp: async () => {},
    zones: async () => null,
    ...(delegatedName ? { delegatedName: () => delegatedName } : {}),
  };
  const look = ({ value, fits = () => false }: ValueQuestion): Sight => {
    const where = { server: 'ns1.elsewhere.org', address: '192.0.2.1' };
    if (has.some((text) => text === value || fits(text))) return { ...where, state: 'shows' };
    return { ...where, state: 'hidden', rcode: 'NOERROR', values: has, serial: 1, alias: null };
  };
  const open = async (): Promise<DnsProvider> => {
    opened += 1;
    return provider;
  };
  const solver = createDnsSolver({
    ...{ type, clock, writer: byHand ? null : { credential: 'cred_1', open } },
    zones: { findZone: async () => zone.zone, locate: async () => zone },
    authoritative: { nameServers: async () => [], showsValue: async (question) => [look(question)] },
  });
  return { solver, written, opened: () => opened };
}

describe('the solver of challenges in DNS', () => {
  it('writes where the CNAMEs of the challenge lead', async () => {
    const { solver, written } = solverThat({});
    const presented = await solver.prepare(challenge, signal);
    expect(presented).toEqual({
      ...{ type: 'dns-01', name: challenge.name, expires: challenge.expires, credential: 'cred_1' },
      ...{ record: 'record.elsewhere.org', zone: 'elsewhere.org', since: clock.now() },
      value: expect.stringMatching(/^[\w-]{43}$/),
    });
    await solver.present(presented, signal);
    expect(written).toEqual([`record.elsewhere.org ${presented.value}`]);
  });

  it('tells of the CNAMEs when the zone that they lead to is not to be changed', async () => {
    const refuses = new CertlineError('dns_zone_not_managed', 'no right to elsewhere.org', {
      evidence: { rcode: 'REFUSED' },
    });
    const { solver } = solverThat({ refuses });
    const presented = await solver.prepare(challenge, signal);
    await expect(solver.present(presented, signal)).rejects.toMatchObject({
      ...{ code: 'dns_zone_not_managed', plan: refuses.plan, evidence: refuses.evidence },
      message:
        'no right to elsewhere.org; record.elsewhere.org is where a CNAME at the challenge name of *.example.org leads',
    });
    const direct = { ...presented, record: '_acme-challenge.example.org' };
    await expect(solver.present(direct, signal)).rejects.toBe(refuses);
  });

  it('refuses where they do not lead to the one place that a provider has', async () => {
    const { solver } = solverThat({ delegatedName: 'uuid.auth.example' });
    await expect(solver.prepare(challenge, signal)).rejects.toMatchObject({
      code: 'dns_zone_not_managed',
      message: '_acme-challenge.example.org must be a CNAME to uuid.auth.example; it leads to record.elsewhere.org',
    });
    const right = solverThat({ delegatedName: 'record.elsewhere.org' }).solver;
    expect(await right.prepare(challenge, signal)).toMatchObject({ record: 'record.elsewhere.org' });
  });

  it('looks again soon at first, then every minute, and uses no attempt', async () => {
    const { solver } = solverThat({ has: ['other'] });
    const presented = await solver.prepare(challenge, signal);
    for (const [after, wait] of [
      [0, 5_000],
      [30_000, 15_000],
      [3_600_000, 60_000],
    ] as const) {
      const since = clock.now() - after;
      await expect(solver.check({ ...presented, since }, signal)).rejects.toMatchObject({
        ...{ code: 'dns_record_not_visible', message: expect.stringContaining('ns1.elsewhere.org (192.0.2.1)') },
        plan: { kind: 'wait', until: clock.now() + wait },
      });
    }
    await solverThat({ has: [presented.value] }).solver.check(presented, signal);
  });
});

describe('the solver of dns-persist-01', () => {
  const type = 'dns-persist-01';

  it('writes a record where none does', async () => {
    const { solver, written } = solverThat({ type, has: ['other.example; accounturi=https://ca.example/account/1'] });
    await solver.present(await solver.prepare(challenge, signal), signal);
    expect(written).toEqual([`record.elsewhere.org ${persistent}`]);
  });

  it('writes nothing where one does, and opens no credential', async () => {
    const { solver, written, opened } = solverThat({ type, has: [`${persistent}; persistUntil=99999999999`] });
    const presented = await solver.prepare(challenge, signal);
    await solver.present(presented, signal);
    await solver.check(presented, signal);
    expect([written, opened()]).toEqual([[], 0]);
  });

  it('refuses a provider where no value stays', async () => {
    const { solver, written } = solverThat({ type, delegatedName: zone.name });
    const presented = await solver.prepare(challenge, signal);
    await expect(solver.present(presented, signal)).rejects.toMatchObject({ code: 'challenge_unsupported' });
    expect(written).toEqual([]);
  });
});

describe('a record that a person makes', () => {
  it('is waited for, soon at first, then every five minutes, and said with its name and value', async () => {
    const { solver, written } = solverThat({ byHand: true, has: ['a typing error'] });
    const presented = await solver.prepare(challenge, signal);
    expect(presented.credential).toBeNull();
    await solver.present(presented, signal);
    expect(written).toEqual([]);
    const { record: name, value } = presented;
    const expires = clock.now() + 7 * 86_400_000;
    for (const [after, wait] of [
      [0, 10_000],
      [60_000, 30_000],
      [86_400_000, 300_000],
    ] as const) {
      await expect(solver.check({ ...presented, expires, since: clock.now() - after }, signal)).rejects.toMatchObject({
        code: 'dns_record_awaited',
        message: expect.stringMatching(`^Make the TXT record ${name} with the value "${value}"\\. .*a typing error`),
        evidence: { records: [{ name, value }] },
        plan: { kind: 'wait', until: clock.now() + wait },
      });
    }
    await solverThat({ byHand: true, has: [value] }).solver.check(presented, signal);
  });

  it('is looked for a last time a minute before the authorization ends; then the order fails', async () => {
    const { solver } = solverThat({ byHand: true });
    const presented = await solver.prepare(challenge, signal);
    const [soon, over] = [clock.now() + 63_000, clock.now() + 60_000];
    await expect(solver.check({ ...presented, expires: soon }, signal)).rejects.toMatchObject({
      plan: { kind: 'wait', until: clock.now() + 3_000 },
    });
    await expect(solver.check({ ...presented, expires: over }, signal)).rejects.toMatchObject({
      ...{ code: 'dns_record_awaited', message: expect.stringContaining('nobody made the TXT record') },
      plan: { kind: 'permanent' },
    });
  });
});
