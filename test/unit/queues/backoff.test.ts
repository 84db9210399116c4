import { describe, expect, it } from 'vitest';
import { backoff, shortlyAfter } from '#libs/queues/backoff';
import { jobId, paceOf, paces, restartPolicy, stages } from '#libs/queues/stages';

const middle = 0.5;
const minute = 60_000;

describe('the delay before the next attempt', () => {
  const pace = [1_000, 2_000, 4_000, 10_000];

  it('is that of the pace, whose last one repeats', () => {
    const delays = [1, 2, 3, 4, 5, 50].map((failures) => backoff(pace, failures, middle));
    expect(delays).toEqual([1_000, 2_000, 4_000, 10_000, 10_000, 10_000]);
  });

  it('lies within a fifth of it to either side', () => {
    expect(backoff(pace, 1, 0)).toBe(800);
    expect(backoff(pace, 1, 0.999_999)).toBe(1_200);
    expect(backoff(pace, 50, 0.999_999)).toBe(12_000);
  });

  it('of new ACME orders is 1, 10 and 100 minutes, then always a day', () => {
    const minutes = [1, 2, 3, 4, 5].map((failures) => backoff(restartPolicy.pace, failures, middle) / minute);
    expect(minutes).toEqual([1, 10, 100, 1_440, 1_440]);
  });
});

describe('a time that somebody else named', () => {
  it('is never come before, and met up to a tenth of the wait later', () => {
    const met = [0, middle, 0.999_999].map((random) => Math.round(shortlyAfter(100_000, 40_000, random)));
    expect(met).toEqual([100_000, 103_000, 106_000]);
  });

  it('is met a minute later at most, and one that is past at once', () => {
    expect(Math.round(shortlyAfter(1_000 * minute, 0, 0.999_999))).toBe(1_001 * minute);
    expect(shortlyAfter(1_000, 5_000, middle)).toBe(1_000);
  });
});

describe('the paces', () => {
  const all = [...Object.values(stages).map(({ retry }) => retry.pace), ...paces.map(({ pace }) => pace)];

  it('grow from failure to failure, and end with an hour at the most', () => {
    for (const pace of all) {
      expect(pace).toEqual(pace.toSorted((a, b) => a - b));
      expect(pace.at(-1)).toBeLessThanOrEqual(60 * minute);
    }
  });

  it('begin soon for a connection to the CA, later for a CA in trouble and a host that is down', () => {
    const first = (code: Parameters<typeof paceOf>[1]) => paceOf('deployment', code)[0];
    expect([first('ca_unreachable'), first('ca_unavailable')]).toEqual([2_000, 30_000]);
    expect([first('target_unreachable'), first('ssh_login_refused')]).toEqual([15_000, minute]);
    expect([first('commit_conflict'), paceOf('validation', 'dns_lookup_failed')[0]]).toEqual([5_000, 5_000]);
  });

  it('ask a host that refuses the login less often than the ten times in ten minutes that lock an account', () => {
    const delays = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((failures) =>
      backoff(paceOf('deployment', 'ssh_login_refused'), failures, 0),
    );
    expect(delays.reduce((sum, delay) => sum + delay)).toBeGreaterThan(10 * minute);
  });

  it('are for a code once', () => {
    const codes = paces.flatMap((one) => one.codes);
    expect(new Set(codes).size).toBe(codes.length);
  });
});

describe('the stages', () => {
  it.each(Object.values(stages))('$name: its attempts end before its deadline', ({ retry, deadline }) => {
    for (const pace of [retry.pace, ...paces.map((one) => one.pace)]) {
      let longest = 0;
      for (let failures = 1; failures < retry.attempts; failures += 1) longest += backoff(pace, failures, 1);
      expect(longest).toBeLessThan(deadline);
    }
  });

  it('name their jobs by order, stage and epoch', () => {
    expect(jobId('ord_1', 'issuance', 3)).toBe('ord_1.issuance.3');
  });
});
