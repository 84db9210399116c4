import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import { createPfx } from '../crypto/pfx.ts';
import type { CentralStoreSettings } from '../model/target-kinds.ts';
import { type CertificateTarget, type PublicCertificate, runSteps } from './certificate-target.ts';
import { centralStoreFileOf } from './file-names.ts';
import {
  isTemporary,
  leftoverAgeMs,
  readSmall,
  replaceFile,
  requireFolder,
  tryWriting,
  withFiles,
} from './file-system.ts';
import { pemParts } from './pem-parts.ts';
import { readPfx } from './pfx-contents.ts';

/** The password protects the key; that the group may read lets a share be served under another account than the worker's. */
const fileMode = 0o640;
/** A look at some of the files shows a wrong password as well as a look at all. */
const mostFilesTested = 50;

export interface CentralStoreDeps {
  clock: Clock;
  /** The one password of all files. */
  password: string;
}

/**
 * The central certificate store of IIS: a folder or share with a PFX per host name, which IIS finds by its name at a handshake
 * (iis/rules.md §5.5). No binding is touched here. Each file holds certificate and key, so that each is replaced as a whole by a rename;
 * files of names that a newer certificate no longer has stay, since nothing says whose they are.
 */
export function createCentralStore(
  { path, form }: CentralStoreSettings,
  { clock, password }: CentralStoreDeps,
): CertificateTarget {
  const filesOf = ({ names }: PublicCertificate): string[] => [...new Set(names.map(centralStoreFileOf))];

  /** What is wrong with a file; null when it is as it should be. */
  async function differenceOf(file: string, { thumbprint }: PublicCertificate): Promise<string | null> {
    const pfx = await withFiles(file, () => readSmall(join(path, file)));
    if (pfx === null) return `${file} is missing`;
    const contents = readPfx(pfx, password);
    if (!contents.readable) return `${file} cannot be read with the password: ${contents.reason}`;
    if (contents.thumbprint !== thumbprint) return `${file} holds ${contents.thumbprint} instead of ${thumbprint}`;
    return contents.form === form ? null : `${file} has the form ${contents.form} instead of ${form}`;
  }

  /** Removes what runs left behind that died between writing a file and renaming it. */
  async function removeLeftovers(): Promise<void> {
    const names = await withFiles('the folder of the target', () => readdir(path));
    for (const leftover of names.filter(isTemporary).map((name) => join(path, name))) {
      try {
        const { mtimeMs } = await lstat(leftover);
        if (clock.now() - mtimeMs > leftoverAgeMs) await rm(leftover, { force: true });
      } catch {
        // Another run was faster, or may do it another time: it holds up no certificate.
      }
    }
  }

  /** @throws Error naming the files that another password opens: IIS can read those or the ones of certline, never both. */
  async function comparePasswords(): Promise<string> {
    const all = await withFiles('the folder of the target', () => readdir(path));
    const some = all.filter((name) => /\.pfx$/i.test(name)).slice(0, mostFilesTested);
    const others: string[] = [];
    for (const name of some) {
      const pfx = await withFiles(name, () => readSmall(join(path, name)));
      const contents = pfx && readPfx(pfx, password);
      if (contents && !contents.readable && contents.wrongPassword) others.push(name);
    }
    if (others.length > 0)
      throw new Error(
        `${others.length} of ${some.length} files have another password: ${others.slice(0, 5).join(', ')}`,
      );
    return some.length === 0 ? 'there are no files to compare the password with' : `it fits ${some.length} files`;
  }

  return {
    async deploy(certificate, { signal }) {
      const files = filesOf(certificate);
      pemParts(certificate); // the files are compared by the thumbprint: it has to be that of the chain
      await requireFolder(path);
      await removeLeftovers();
      const due: string[] = [];
      for (const file of files) if ((await differenceOf(file, certificate)) !== null) due.push(file);
      if (due.length === 0) return { changed: false, detail: `all ${files.length} files are there` };

      const { privateKeyPem, chainPem, names, notAfter } = certificate;
      const friendlyName = `${names[0]} [certline] ${new Date(notAfter).toISOString().slice(0, 10)}`;
      const pfx = await createPfx({ privateKeyPem, chainPem, password, friendlyName, form });
      for (const file of due) {
        signal.throwIfAborted();
        await withFiles(file, () => replaceFile(join(path, file), pfx, { mode: fileMode, clock, signal }));
      }
      return { changed: true, detail: `${due.length} of ${files.length} files written: ${due.join(', ')}` };
    },

    async check(certificate, signal) {
      await requireFolder(path);
      const differences: string[] = [];
      for (const file of filesOf(certificate)) {
        signal.throwIfAborted();
        const difference = await differenceOf(file, certificate);
        if (difference !== null) differences.push(difference);
      }
      return { state: differences.length === 0 ? 'same' : 'different', differences };
    },

    test: (signal) =>
      runSteps(signal, [
        { step: 'folder', run: () => requireFolder(path).then(() => `${path} is there`) },
        { step: 'write', run: () => tryWriting(path, clock) },
        { step: 'password', run: comparePasswords },
      ]),
  };
}
