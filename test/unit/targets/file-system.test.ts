import { describe, expect, it } from 'vitest';
import { whileHeld, withFiles } from '#libs/targets/file-system';
import { fakeClock } from '../../support/fake-clock.ts';

const failure = (code: string): Error => Object.assign(new Error(`${code}: refused`), { code });

describe('errors of files', () => {
  it.each([
    ['EACCES', 'access_denied'],
    ['EPERM', 'access_denied'],
    ['ENOENT', 'target_unreachable'],
    ['EHOSTDOWN', 'target_unreachable'],
    ['ESTALE', 'target_unreachable'],
    ['ETIMEDOUT', 'target_timeout'],
    ['ENOSPC', 'target_refused'],
    ['EROFS', 'target_refused'],
  ])('are told in our words: %s as %s', async (code, ours) => {
    const failing = withFiles('a.pfx', () => Promise.reject(failure(code)));
    await expect(failing).rejects.toMatchObject({ code: ours, message: `a.pfx: ${code}: refused` });
  });

  it('that are none pass through', async () => {
    const other = new TypeError('a bug');
    await expect(withFiles('x', () => Promise.reject(other))).rejects.toBe(other);
  });
});

describe('a file that a reader holds open on Windows', () => {
  it('is tried again until it is let go', async () => {
    const clock = fakeClock();
    const answers = ['EPERM', 'EBUSY', 'EACCES'];
    let tries = 0;
    const work = async (): Promise<void> => {
      tries += 1;
      const code = answers.shift();
      if (code) throw failure(code);
    };
    await whileHeld(work, clock);
    expect([tries, clock.sleeps.length]).toEqual([4, 3]);
  });

  it('is given up after two seconds, and at once for any other error', async () => {
    const clock = fakeClock();
    const start = clock.now();
    await expect(whileHeld(() => Promise.reject(failure('EPERM')), clock)).rejects.toThrow('EPERM');
    expect(clock.now() - start).toBe(1800);
    await expect(whileHeld(() => Promise.reject(failure('ENOSPC')), clock)).rejects.toThrow('ENOSPC');
    expect(clock.now() - start).toBe(1800);
  });

  it('does not keep a worker that stops', async () => {
    const stop = AbortSignal.abort(new Error('stopping'));
    await expect(whileHeld(() => Promise.reject(failure('EPERM')), fakeClock(), stop)).rejects.toThrow('stopping');
  });
});
