import { describe, expect, it } from 'vitest';
import { renewalTime } from '#libs/model/certificate';

const day = 86_400_000;

describe('a certificate is renewed', () => {
  const start = Date.UTC(2026, 0, 1);
  it.each([
    [90, 60],
    [45, 30],
    [10, 20 / 3],
    [6, 3],
  ])('when it lasts %d days: after %d', (lifetime, age) => {
    expect(renewalTime(start, start + lifetime * day)).toBe(Math.round(start + age * day));
  });

  it('at a whole millisecond', () => {
    expect(Number.isInteger(renewalTime(start + 1, start + 90 * day + 3))).toBe(true);
  });
});
