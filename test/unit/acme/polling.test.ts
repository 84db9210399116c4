import { describe, expect, it } from 'vitest';
import { pollInPlace } from '#libs/acme/polling';
import { fakeClock } from '../../support/fake-clock.ts';

interface Seen {
  status: string;
  retryAfter: number | null;
}
const { signal } = new AbortController();

/** Polls a CA that gives these answers and then its last one for ever. */
function poll(answers: readonly Seen[], clock = fakeClock(), aborted = signal) {
  let reads = 0;
  const read = async (): Promise<Seen> => {
    const seen = answers[Math.min(reads, answers.length - 1)];
    reads += 1;
    if (!seen) throw new Error('no answers');
    return seen;
  };
  const busy = ({ status }: Seen): boolean => status === 'processing';
  const result = pollInPlace({ read, busy, code: 'acme_order_processing', context: { clock, signal: aborted } });
  return { clock, result, reads: () => reads };
}

const start = fakeClock().now();
const processing = (retryAfter: number | null = null): Seen => ({ status: 'processing', retryAfter });
const valid: Seen = { status: 'valid', retryAfter: null };
const waits = (until: number) => ({ code: 'acme_order_processing', plan: { kind: 'wait', until } });

describe('polling the CA', () => {
  it('answers what the CA says as soon as it has decided', async () => {
    const { result, clock, reads } = poll([valid]);
    expect(await result).toBe(valid);
    expect(reads()).toBe(1);
    expect(clock.sleeps).toEqual([50]);
  });

  it('looks quickly first, then ever more slowly', async () => {
    const { result, clock } = poll([...Array.from({ length: 6 }, () => processing()), valid]);
    await result;
    expect(clock.sleeps).toEqual([50, 100, 200, 400, 800, 800, 800]);
  });

  it('gives the slot back after four seconds, for five', async () => {
    const { result, clock } = poll([processing()]);
    const error: unknown = await result.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject(waits(clock.now() + 5_000));
    expect(clock.now() - start).toBeGreaterThanOrEqual(4_000);
    expect(clock.now() - start).toBeLessThan(5_000);
  });

  it('gives it back at once when the CA wants to be left alone for longer', async () => {
    const { result, reads } = poll([processing(start + 60_000)]);
    await expect(result).rejects.toMatchObject(waits(start + 60_000));
    expect(reads()).toBe(1);
  });

  it('waits in place when the CA asks for a moment', async () => {
    const { result, clock } = poll([processing(start + 2_000), valid]);
    await result;
    expect(clock.sleeps).toEqual([50, 1_950, 100]);
  });

  it('stays away for a second at least, whatever the CA says', async () => {
    const { result, clock } = poll([processing(start - 60_000)]);
    const error: unknown = await result.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject(waits(clock.now() + 1_000));
  });

  it('stops with the process', async () => {
    const stop = new AbortController();
    stop.abort(new Error('the process stops'));
    const { result, reads } = poll([valid], fakeClock(), stop.signal);
    await expect(result).rejects.toThrow('the process stops');
    expect(reads()).toBe(0);
  });
});
