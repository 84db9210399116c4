import { constants } from 'node:fs';
import { access, glob } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exists, isDebian, unpackPackages } from './debian-packages.ts';
import { onPath, withLock } from './programs.ts';

const CACHE = join(import.meta.dirname, '..', '..', '.cache');

/** A program of a Debian package, ready to be started with `startProgram`. */
export interface DebianProgram {
  /** Another program that came with it: `knotc` beside `knotd`. */
  beside(name: string): Promise<string>;
  path: string;
  /** What it needs in its environment: where the libraries are that the machine lacks. */
  env: Record<string, string>;
  /** The folder that it was unpacked to, for the parts that it looks for at the place it was built for; null where the machine has it. */
  root: string | null;
}

async function foundIn(root: string | null, name: string): Promise<string | undefined> {
  const folders = ['usr/sbin', 'usr/bin', 'sbin', 'bin'].map((folder) => join(root ?? '/', folder, name));
  for (const path of folders) {
    const runs = access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (await runs) return path;
  }
  return root === null ? onPath(name) : undefined;
}

async function librariesOf(root: string): Promise<string> {
  const folders = new Set<string>();
  for await (const file of glob('usr/lib/**/*.so*', { cwd: root })) folders.add(join(root, dirname(file)));
  return [...folders].sort().join(':');
}

async function fromRoot(name: string, root: string | null): Promise<DebianProgram | undefined> {
  const path = await foundIn(root, name);
  if (path === undefined) return undefined;
  return {
    path,
    root,
    env: root === null ? {} : { LD_LIBRARY_PATH: await librariesOf(root) },
    async beside(other) {
      const found = (root === null ? undefined : await foundIn(root, other)) ?? (await foundIn(null, other));
      if (found === undefined) throw new Error(`${other} did not come with ${name}`);
      return found;
    },
  };
}

/**
 * A server program for tests: the machine's own, or one that is unpacked from Debian's packages, the first time into `.cache`.
 * Throws with what to install where neither is possible: such a test is not left out.
 */
export async function provideFromDebian(name: string, packages: readonly string[]): Promise<DebianProgram> {
  const folder = join(CACHE, packages[0] ?? name);
  const present = async (): Promise<DebianProgram | undefined> =>
    (await fromRoot(name, null)) ?? ((await exists(folder)) ? fromRoot(name, folder) : undefined);
  const found = await present();
  if (found) return found;
  const advice = `${name} is needed and is not on this machine. Install it (Debian: apt-get install ${packages.join(' ')}).`;
  if (!(await isDebian())) throw new Error(advice);
  const unpacked = await withLock(packages[0] ?? name, async () => {
    if (!(await exists(folder))) await unpackPackages(folder, packages);
    return present();
  });
  if (!unpacked) throw new Error(advice);
  return unpacked;
}
