import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { problemsOf } from '../../../services/api/problem-json.ts';

const body = z.strictObject({ name: z.string(), site: z.strictObject({ id: z.number() }).optional() });
const wrong = (value: unknown) => {
  const { error } = body.safeParse(value);
  if (!error) throw new Error('nothing is wrong');
  return problemsOf(error);
};

describe('the problems of a body', () => {
  it('say of a field that it is missing or unknown, and where', () => {
    expect(wrong({ site: { id: 1, nmae: 2 } })).toEqual([
      { path: 'name', code: 'request_invalid', detail: 'is missing' },
      { path: 'site.nmae', code: 'request_invalid', detail: 'unknown field' },
    ]);
  });

  it('are few and short, however many fields nobody knows', () => {
    const fields = Array.from({ length: 3_000 }, (_, i) => [`f${i}${'x'.repeat(200)}`, 1] as const);
    const problems = wrong({ name: 'a', ...Object.fromEntries(fields) });
    expect(problems).toHaveLength(20);
    expect(JSON.stringify(problems).length).toBeLessThan(5_000);
  });
});
