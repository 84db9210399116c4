import { glob, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { provideFromDebian } from '../../services/lab/debian-programs.ts';

/** A clock that processes take for that of their machine, and that can be set while they run (libfaketime). */
export interface FalseClock {
  /** The environment of processes that have it. */
  env: Record<string, string>;
  /** Sets it some seconds before or behind the real one. */
  set(seconds: number): Promise<void>;
  close(): Promise<void>;
}

export async function createFalseClock(): Promise<FalseClock> {
  const { root } = await provideFromDebian('faketime', ['faketime', 'libfaketime']);
  let library: string | undefined;
  for await (const found of glob('usr/lib/*/faketime/libfaketime.so.1', { cwd: root ?? '/' })) library = found;
  if (library === undefined) throw new Error('faketime came without its library');
  const dir = await mkdtemp(join(tmpdir(), 'certline-clock-'));
  const file = join(dir, 'clock');
  const set = (seconds: number): Promise<void> => writeFile(file, `${seconds < 0 ? '' : '+'}${seconds}\n`);
  await set(0);
  return {
    set,
    env: {
      LD_PRELOAD: join(root ?? '/', library),
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      // Only the time of day jumps: timers run on, as they do when somebody sets the clock.
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
    close: () => rm(dir, { recursive: true, force: true }),
  };
}
