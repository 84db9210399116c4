import { describe, expect, it } from 'vitest';
import { challengeName, challengeValue, createDns01Solver } from '#libs/challenges/dns-01';
import type { Sight } from '#libs/dns/authoritative';
import { fakeClock } from '../../support/fake-clock.ts';

const { signal } = new AbortController();

describe('the record of dns-01', () => {
  it.each([
    ['www.example.org', '_acme-challenge.www.example.org'],
    ['*.example.org', '_acme-challenge.example.org'],
    ['*.a.example.org', '_acme-challenge.a.example.org'],
  ])('of %s is at %s', (name, expected) => {
    expect(challengeName(name)).toBe(expected);
  });

  it('has the SHA-256 of the key authorization in base64url without padding (RFC 8555 §8.4)', () => {
    const token = 'pNvmJivs0WCko2suV7fhe-59oFqyYx_yB7tx6kIMAyE';
    const thumbprint = 'HnWjTDnyqlCrm6tZ-6wX-TrEXgRdeNu9G71gqxSO6o0';
    expect(challengeValue(`${token}.${thumbprint}`)).toBe('rzMmotrIgsithyBYc0vgiLUEEKYx0WetQRgEF2JIozA');
  });
});

describe('the solver of dns-01', () => {
  const clock = fakeClock();
  const challenge = { name: '*.example.org', token: 't', keyAuthorization: 't.k', expires: 0 };
  const zone = { name: 'record.elsewhere.org', zone: 'elsewhere.org', chain: [], nameservers: [] };
  const solverThat = (options: { sights?: Sight[]; delegatedName?: string }) =>
    createDns01Solver({
      ...{ credential: 'cred_1', clock },
      provider: {
        present: async () => {},
        cleanUp: async () => {},
        zones: async () => null,
        ...(options.delegatedName ? { delegatedName: () => options.delegatedName ?? '' } : {}),
      },
      zones: { findZone: async () => zone.zone, locate: async () => zone },
      authoritative: { nameServers: async () => [], showsValue: async () => options.sights ?? [] },
    });

  it('writes where the CNAMEs of the challenge lead', async () => {
    expect(await solverThat({}).prepare(challenge, signal)).toEqual({
      ...{ ...challenge, type: 'dns-01', credential: 'cred_1', value: challengeValue('t.k'), since: clock.now() },
      ...{ record: 'record.elsewhere.org', zone: 'elsewhere.org' },
    });
  });

  it('refuses where they do not lead to the one place that a provider has', async () => {
    const solver = solverThat({ delegatedName: 'uuid.auth.example' });
    await expect(solver.prepare(challenge, signal)).rejects.toMatchObject({
      code: 'dns_zone_not_managed',
      message: '_acme-challenge.example.org must be a CNAME to uuid.auth.example; it leads to record.elsewhere.org',
    });
    const right = solverThat({ delegatedName: 'record.elsewhere.org' });
    expect(await right.prepare(challenge, signal)).toMatchObject({ record: 'record.elsewhere.org' });
  });

  it('looks again soon at first, then every minute, and uses no attempt', async () => {
    const server = { server: 'ns1.elsewhere.org', address: '192.0.2.1' };
    const solver = solverThat({ sights: [{ ...server, state: 'silent', why: 'does not answer' }] });
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
    await solverThat({ sights: [{ ...server, state: 'shows' }] }).check(presented, signal);
  });
});
