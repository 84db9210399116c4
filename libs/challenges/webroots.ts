import {
  access,
  chmod,
  constants,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  rmdir,
  writeFile,
} from 'node:fs/promises';
import { isAbsolute, join, relative, resolve, sep } from 'node:path';
import { CertlineError } from '../errors.ts';
import { isAbsent, readSmall, withFiles } from '../targets/file-system.ts';

/** Answers to http-01 as files below the root folders of web servers. */
export interface Webroots {
  /**
   * Writes an answer where a web server with this root folder serves it; doing it again changes nothing.
   * Throws `webroot_not_allowed`, and what `withFiles` makes of the file system.
   */
  write(folder: string, token: string, keyAuthorization: string): Promise<void>;
  /** Throws as `write` does for a folder that it could not write to. Writes nothing. */
  look(folder: string): Promise<void>;
  /** Takes it away, with the folders that were made for it and have nothing else in them. Throws as `write` does. */
  remove(folder: string, token: string): Promise<void>;
}

const parts = ['.well-known', 'acme-challenge'];
/** In a folder that certline made: others stay, also when they are empty. */
const mark = '.made-by-certline';
const markText = 'certline made this folder for a challenge, and takes it away when there is none any more.\n';
const folderMode = 0o755;
const fileMode = 0o644;
/** Another order of the same account may write the same meanwhile, or take an empty folder away. */
const tries = 3;

const isBelow = (root: string, path: string): boolean => {
  const way = relative(root, path);
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
};
const codeOf = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined);
const beside = (file: string): string => `${file}.tmp`;

async function unlessThere(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST' || codeOf(error) === 'ENOTEMPTY') return false;
    throw error;
  }
}

const leaveMark = (path: string): Promise<void> => writeFile(join(path, mark), markText);

/** Takes away a folder that certline made, once nothing else is in it. */
async function leave(path: string): Promise<void> {
  try {
    // Whoever puts something in meanwhile may have taken it out again before the mark was back: then it is ours to see.
    while ((await readdir(path)).join() === mark) {
      await rm(join(path, mark), { force: true });
      if (await unlessThere(() => rmdir(path))) return;
      await leaveMark(path);
    }
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
}

/** A new file, whole from the first moment that it has its name. Readers of the web server may run as anybody. */
async function place(file: string, text: string): Promise<void> {
  await rm(beside(file), { force: true });
  // Never through a link that somebody has put there.
  const handle = await open(beside(file), 'wx');
  try {
    await handle.writeFile(text);
    await handle.chmod(fileMode);
  } finally {
    await handle.close();
  }
  await rename(beside(file), file);
}

function notAllowed(folder: string): CertlineError {
  return new CertlineError('webroot_not_allowed', `${folder} is not in one of the folders that WEBROOTS names`);
}

/** `roots`: in and below these folders files may be written, by their real paths: no link leads out. */
export function createWebroots(roots: readonly string[]): Webroots {
  async function requireAllowed(folder: string, real: string): Promise<string> {
    for (const root of roots) {
      const allowed = await realpath(root).catch(() => null);
      if (allowed !== null && isBelow(allowed, real)) return real;
    }
    throw notAllowed(folder);
  }

  /** The folder's real path. Of one outside of the roots it is not even told whether it is there. */
  async function enter(folder: string): Promise<string> {
    const real = await withFiles('the folder of the web server', () => realpath(folder)).catch((error: unknown) => {
      throw roots.some((root) => isBelow(resolve(root), resolve(folder))) ? error : notAllowed(folder);
    });
    return requireAllowed(folder, real);
  }

  async function makeFolders(root: string): Promise<string> {
    let path = root;
    for (const part of parts) {
      const next = join(path, part);
      if (await unlessThere(() => mkdir(next))) {
        await chmod(next, folderMode);
        await leaveMark(next);
      }
      path = await requireAllowed(next, await realpath(next));
    }
    return path;
  }

  return {
    async write(folder, token, keyAuthorization) {
      const root = await enter(folder);
      await withFiles('the answer to http-01', async () => {
        for (let count = 1; ; count += 1) {
          try {
            return await place(join(await makeFolders(root), token), keyAuthorization);
          } catch (error) {
            if (count === tries || !(isAbsent(error) || codeOf(error) === 'EEXIST')) throw error;
          }
        }
      });
    },

    async look(folder) {
      const root = await enter(folder);
      await withFiles('the folder of the web server', () => access(root, constants.W_OK));
    },

    async remove(folder, token) {
      const root = await enter(folder);
      const [wellKnown, challenges] = [join(root, '.well-known'), join(root, ...parts)];
      await withFiles('the answer to http-01', async () => {
        const real = await realpath(challenges).catch((error: unknown) => {
          if (isAbsent(error)) return null;
          throw error;
        });
        if (real !== null) {
          const file = join(await requireAllowed(challenges, real), token);
          for (const path of [file, beside(file)]) {
            const text = (await readSmall(path))?.toString('latin1');
            // A file of another kind is somebody else's. One that a killed worker has begun may be empty.
            if (text?.startsWith(`${token}.`) || (path !== file && text === '')) await rm(path, { force: true });
          }
          await leave(challenges);
        }
        await leave(wellKnown);
      });
    },
  };
}
