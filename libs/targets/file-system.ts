import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import type { Clock } from '../clock.ts';
import { CertlineError, type ErrorCode } from '../errors.ts';

export const onWindows = process.platform === 'win32';

/** How old a leftover of a run that died must be before it is removed: no run lives as long, and clocks of one domain differ by minutes. */
export const leftoverAgeMs = 3_600_000;
/** More than any chain, key or PFX has. */
const largestFile = 1 << 20;

const codes: Record<string, ErrorCode> = {
  EACCES: 'access_denied',
  EPERM: 'access_denied',
  // The folder, or the share under it, is not there: it may come back.
  ENOENT: 'target_unreachable',
  ENOTDIR: 'target_unreachable',
  EIO: 'target_unreachable',
  ESTALE: 'target_unreachable',
  EHOSTDOWN: 'target_unreachable',
  EHOSTUNREACH: 'target_unreachable',
  ENETUNREACH: 'target_unreachable',
  ENOTCONN: 'target_unreachable',
  ETIMEDOUT: 'target_timeout',
  // What libuv makes of most Windows errors of the network.
  UNKNOWN: 'target_unreachable',
};

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';

/** Whether an error of the file system says that there is nothing. */
export const isAbsent = (error: unknown): boolean => codeOf(error) === 'ENOENT';

/**
 * Does something with files, and tells in our words what went wrong.
 *
 * @throws CertlineError `access_denied`, `target_unreachable`, `target_timeout`, else `target_refused`.
 */
export async function withFiles<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const code = codeOf(cause);
    if (code === '' || cause instanceof CertlineError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CertlineError(codes[code] ?? 'target_refused', `${what}: ${why}`, { cause, evidence: { error: code } });
  }
}

/**
 * Certline makes no folder of a target: where it is missing, a disk or a share is not mounted more often than not.
 *
 * @throws CertlineError `target_unreachable` without the folder, `target_refused` where it is none, or a path of another system.
 */
export async function requireFolder(path: string): Promise<void> {
  if (!isAbsolute(path))
    throw new CertlineError('target_refused', `${path} is no absolute path on the machine of this worker`);
  const found = await withFiles('the folder of the target', () => stat(path)).catch((error: unknown) => {
    if (!(error instanceof CertlineError) || !isAbsent(error.cause)) throw error;
    const detail = `${path} is not there on the machine of this worker: make it, or mount it, for certline makes no folder of a target`;
    throw new CertlineError('target_unreachable', detail, { cause: error.cause, evidence: { error: 'ENOENT' } });
  });
  if (!found.isDirectory()) throw new CertlineError('target_refused', `${path} is not a folder`);
}

/** A file, null when there is none. What is no plain file or has more than 1 MiB is none of ours: it is not read and answered as empty. */
export async function readSmall(path: string): Promise<Buffer | null> {
  try {
    const found = await stat(path);
    return found.isFile() && found.size <= largestFile ? await readFile(path) : Buffer.alloc(0);
  } catch (error) {
    if (isAbsent(error)) return null;
    throw error;
  }
}

/** Writes a new file and returns when the disk has it. */
export async function writeSynced(path: string, data: string | Buffer, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode);
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Returns when the disk has the names in a folder. Windows has no such call: NTFS keeps a journal of them. */
export async function syncFolder(path: string): Promise<void> {
  if (onWindows) return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } catch (error) {
    // Some shares have no such call either; they keep the names as well as they keep the files.
    if (!['EINVAL', 'ENOTSUP'].includes(codeOf(error))) throw error;
  } finally {
    await folder.close();
  }
}

const heldTries = 10;
const heldDelayMs = 200;

/** Tries for two seconds what Windows refuses (EPERM, EACCES, EBUSY) while a reader or a virus scanner has a file open. */
export async function whileHeld(work: () => Promise<void>, clock: Clock, signal?: AbortSignal): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      if (tries === heldTries || !['EPERM', 'EACCES', 'EBUSY'].includes(codeOf(error))) throw error;
      await clock.sleep(heldDelayMs, signal);
    }
  }
}

const temporary = /^\.certline-[0-9a-f]{16}\.tmp$/;
/** The name of a file on its way to another name, short and free of that name, which may be as long as names get. */
export const temporaryName = (): string => `.certline-${randomBytes(8).toString('hex')}.tmp`;
/** Whether a file is one that a run of certline left behind when it died. */
export const isTemporary = (name: string): boolean => temporary.test(name);

/** Renames over what is there: readers see the old file or the new one, whole. */
export function renameOver(from: string, to: string, clock: Clock, signal?: AbortSignal): Promise<void> {
  return onWindows ? whileHeld(() => rename(from, to), clock, signal) : rename(from, to);
}

/** Writes a file beside its place and renames it there: readers see the old one or the new one, whole, and so does the disk after a power cut. */
export async function replaceFile(
  path: string,
  data: string | Buffer,
  { mode, clock, signal }: { mode: number; clock: Clock; signal?: AbortSignal },
): Promise<void> {
  const folder = dirname(path);
  const beside = join(folder, temporaryName());
  try {
    await writeSynced(beside, data, mode);
    await renameOver(beside, path, clock, signal);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** Shows that files can be written, renamed over and removed in a folder. */
export async function tryWriting(folder: string, clock: Clock): Promise<string> {
  const path = join(folder, temporaryName());
  return withFiles('a file for the test', async () => {
    try {
      await replaceFile(path, 'one', { mode: 0o600, clock });
      await replaceFile(path, 'two', { mode: 0o600, clock });
    } finally {
      await rm(path, { force: true });
    }
    return 'a file was written, replaced and removed';
  });
}
