import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  symlink,
  utimes,
} from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import type { Clock } from '../clock.ts';
import { CertlineError } from '../errors.ts';
import {
  isAbsent,
  isTemporary,
  leftoverAgeMs,
  onWindows,
  renameOver,
  syncFolder,
  temporaryName,
  writeSynced,
} from './file-system.ts';

/** A file of a certificate. */
export interface NewFile {
  name: string;
  data: string | Buffer;
  mode: number;
}

/** How the files of one certificate come to be seen under `live`, together. */
export interface FolderSwap {
  /** The folder as it is now, for one look at all of its files; null when there is none. */
  open(): Promise<string | null>;
  /** Writes the files and lets readers see them. The last of them is the private key. `own` must be there. */
  publish(files: readonly NewFile[], signal: AbortSignal): Promise<void>;
  /** Removes what older certificates and dead runs left, when it is old enough that nobody still reads or writes it. */
  clean(): Promise<void>;
}

export interface SwapPlaces {
  /** Where readers look. */
  live: string;
  /** Certline's own folder for this certificate, beside it. */
  own: string;
  clock: Clock;
}

/** Names in `own` that are no versions. */
export const commandState = 'command.json';
export const commandLog = 'command.log';

async function removeOld(folder: string, isOurs: (name: string) => boolean, clock: Clock): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const path of names.filter(isOurs).map((name) => join(folder, name))) {
    try {
      const { mtimeMs } = await lstat(path);
      if (clock.now() - mtimeMs > leftoverAgeMs) await rm(path, { recursive: true, force: true });
    } catch {
      // The next run does it: it holds up no certificate.
    }
  }
}

/**
 * POSIX: `live` is a symbolic link to a folder with one version of all files, and a rename puts another link in its place. That is one
 * step for the disk and for readers: a link leads to the old version or to the new one, and a killed run leaves a version that nothing
 * leads to. A reader that resolves the link once (a server that enters the folder, `realpath`) sees one certificate for as long as it reads: the version
 * before stays for an hour. One that goes through the link for each file can be between two versions; it is the command afterwards, or its own
 * look at the folder, that has it read again.
 */
export function linkSwap({ live, own, clock }: SwapPlaces): FolderSwap {
  const folder = dirname(live);

  /** The version that readers see; null when there is none yet. Whatever else is there is not ours to replace. */
  async function current(): Promise<string | null> {
    try {
      const found = await lstat(live);
      const version = found.isSymbolicLink() ? join(folder, await readlink(live)) : null;
      if (version !== null && dirname(version) === own) return version;
    } catch (error) {
      if (isAbsent(error)) return null;
      throw error;
    }
    throw new CertlineError('target_refused', `${live} was not made by certline: move it away, or use another folder`);
  }

  return {
    async open() {
      if ((await current()) === null) return null;
      try {
        return await realpath(live);
      } catch (error) {
        if (isAbsent(error)) return null; // somebody removed the version
        throw error;
      }
    },

    async publish(files, signal) {
      const previous = await current();
      const version = await mkdtemp(join(own, 'version-'));
      const link = join(own, temporaryName());
      try {
        for (const { name, data, mode } of files) await writeSynced(join(version, name), data, mode);
        for (const path of [version, own, dirname(own), folder]) await syncFolder(path);
        signal.throwIfAborted();
        await symlink(relative(folder, version), link);
        await rename(link, live);
      } catch (error) {
        for (const path of [link, version]) await rm(path, { recursive: true, force: true });
        throw error;
      }
      await syncFolder(folder);
      // Its last hour begins now. It may be gone: then readers saw nothing.
      if (previous !== null) await utimes(previous, clock.now() / 1000, clock.now() / 1000).catch(() => {});
    },

    async clean() {
      const version = await current();
      const kept = [commandState, commandLog, ...(version === null ? [] : [basename(version)])];
      await removeOld(own, (name) => !kept.includes(name), clock);
    },
  };
}

/**
 * Windows: links need a right that services lack, and no call there replaces a folder by another one. So each file is replaced by itself, and
 * between the first rename and the last, certificate and key are of two different certificates. All are written and on the disk before the
 * first rename, so that this lasts for a few renames and no longer, unless the machine dies in it: then the deployment is run again, sees it, and ends it.
 * The key comes last, and that is the mark: with the new key, everything is new; while certificate and key differ, servers refuse to load them and
 * go on with what they have. Who cannot bear that moment reads `certificate.pfx`, which has both in one file and is replaced at once.
 */
export function fileSwap({ live, own, clock }: SwapPlaces): FolderSwap {
  return {
    async open() {
      try {
        const found = await lstat(live);
        if (found.isDirectory()) return live;
      } catch (error) {
        if (isAbsent(error)) return null;
        throw error;
      }
      throw new CertlineError('target_refused', `${live} is no folder: move it away, or use another folder`);
    },

    async publish(files, signal) {
      await mkdir(live, { recursive: true, mode: 0o700 });
      if (!onWindows) await chmod(live, 0o700);
      const written: { from: string; to: string }[] = [];
      try {
        for (const { name, data, mode } of files) {
          const from = join(live, temporaryName());
          written.push({ from, to: join(live, name) });
          await writeSynced(from, data, mode);
        }
        signal.throwIfAborted();
        // No signal from here on: to stop half-way is what must not be.
        for (const { from, to } of written) await renameOver(from, to, clock);
      } catch (error) {
        for (const { from } of written) await rm(from, { force: true });
        throw error;
      }
      await syncFolder(live);
    },

    async clean() {
      for (const folder of [live, own]) await removeOld(folder, isTemporary, clock);
    },
  };
}
