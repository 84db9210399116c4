import { describe, expect, it } from 'vitest';
import { backoff } from '#libs/queues/backoff';
import { jobId, restartPolicy, stages } from '#libs/queues/stages';

const middle = 0.5;

describe('the delay before the next attempt', () => {
  const policy = { attempts: 9, first: 1_000, factor: 2, cap: 10_000 };

  it('grows from failure to failure, up to the cap', () => {
    const delays = [1, 2, 3, 4, 5, 50].map((failures) => backoff(policy, failures, middle));
    expect(delays).toEqual([1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
  });

  it('lies within a fifth of it to either side', () => {
    expect(backoff(policy, 1, 0)).toBe(800);
    expect(backoff(policy, 1, 0.999_999)).toBe(1_200);
    expect(backoff(policy, 50, 0.999_999)).toBe(12_000);
  });

  it('stays a number after very many failures', () => {
    expect(backoff(policy, 100_000, middle)).toBe(10_000);
  });

  it('of new ACME orders is 1, 10 and 100 minutes, then a day', () => {
    const minutes = [1, 2, 3, 4, 5].map((failures) => backoff(restartPolicy, failures, middle) / 60_000);
    expect(minutes).toEqual([1, 10, 100, 1_000, 1_440]);
  });
});

describe('the stages', () => {
  it.each(Object.values(stages))('$name: its attempts end before its deadline', ({ retry, deadline }) => {
    let longest = 0;
    for (let failures = 1; failures < retry.attempts; failures += 1) longest += backoff(retry, failures, 1);
    expect(longest).toBeLessThan(deadline);
  });

  it('name their jobs by order, stage and epoch', () => {
    expect(jobId('ord_1', 'issuance', 3)).toBe('ord_1.issuance.3');
  });
});
