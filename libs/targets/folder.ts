import { constants } from 'node:fs';
import { access, mkdir, rm, stat, symlink } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import { createPfx } from '../crypto/pfx.ts';
import { CertlineError } from '../errors.ts';
import type { FolderSettings } from '../model/target-kinds.ts';
import {
  type CertificateTarget,
  type DeployableCertificate,
  type PublicCertificate,
  runSteps,
} from './certificate-target.ts';
import { runCommand } from './command.ts';
import { folderNameOf } from './file-names.ts';
import {
  onWindows,
  readSmall,
  renameOver,
  replaceFile,
  requireFolder,
  syncFolder,
  temporaryName,
  tryWriting,
  withFiles,
} from './file-system.ts';
import { commandLog, commandState, type FolderSwap, fileSwap, linkSwap, type NewFile } from './folder-swap.ts';
import { isKeyOf, type PemParts, pemParts } from './pem-parts.ts';
import { readPfx } from './pfx-contents.ts';

/** Certline's own folder in the folder of the target: versions, the state of commands. No certificate's folder begins with a dot. */
const ownFolder = '.certline';
const keyFile = 'privkey.pem';
const pfxFile = 'certificate.pfx';
const ownerOnly = 0o600;

const stateSchema = z.object({ thumbprint: z.string() });

export interface FolderDeps {
  clock: Clock;
  /** Null where the settings want no PFX. */
  pfxPassword: string | null;
  /** Whether this worker runs commands at all: whoever may change targets could run anything on it. */
  allowCommands: boolean;
  /** `links` unless this is Windows. */
  swap?: 'links' | 'files';
}

/** Where the files of one certificate are. */
interface Place {
  live: string;
  own: string;
  swap: FolderSwap;
}

/**
 * A plain folder: `privkey.pem`, `cert.pem`, `chain.pem` and `fullchain.pem` of each certificate, and `certificate.pfx` if it is asked for, in
 * `<path>/<first name>/`, with modes that let in the owner alone. A command may follow.
 */
export function createFolderTarget(settings: FolderSettings, deps: FolderDeps): CertificateTarget {
  const { path, pfx, command } = settings;
  const { clock, pfxPassword, allowCommands, swap = onWindows ? 'files' : 'links' } = deps;
  if (pfx !== null && pfxPassword === null)
    throw new CertlineError('credential_unknown', 'a PFX is asked for, and there is no password for it');

  function placeOf({ names }: PublicCertificate): Place {
    const name = folderNameOf(names[0] ?? '', onWindows);
    const places = { live: join(path, name), own: join(path, ownFolder, name), clock };
    return { ...places, swap: swap === 'links' ? linkSwap(places) : fileSwap(places) };
  }

  /** The files in the order in which they may be seen: the key last. */
  async function filesOf(certificate: DeployableCertificate, { cert, chain, fullchain }: PemParts): Promise<NewFile[]> {
    const { privateKeyPem, chainPem, names } = certificate;
    const open = { mode: 0o644 };
    const files: NewFile[] = [
      { name: 'chain.pem', data: chain, ...open },
      { name: 'cert.pem', data: cert, ...open },
      { name: 'fullchain.pem', data: fullchain, ...open },
    ];
    if (pfx !== null && pfxPassword !== null) {
      const friendlyName = names[0] ?? '';
      const data = await createPfx({ privateKeyPem, chainPem, password: pfxPassword, friendlyName, form: pfx.form });
      files.push({ name: pfxFile, data, mode: ownerOnly });
    }
    return [...files, { name: keyFile, data: privateKeyPem, mode: ownerOnly }];
  }

  async function pfxDifference(folder: string, thumbprint: string): Promise<string[]> {
    if (pfx === null || pfxPassword === null) return [];
    const data = await readSmall(join(folder, pfxFile));
    if (data === null) return [`${pfxFile} is missing`];
    const contents = readPfx(data, pfxPassword);
    if (!contents.readable) return [`${pfxFile} cannot be read with the password: ${contents.reason}`];
    if (contents.thumbprint !== thumbprint) return [`${pfxFile} holds ${contents.thumbprint} instead of ${thumbprint}`];
    return contents.form === pfx.form ? [] : [`${pfxFile} has the form ${contents.form} instead of ${pfx.form}`];
  }

  /** Windows has no modes: there the rights of the folder count, which its administrators set. */
  async function modeDifferences(folder: string): Promise<string[]> {
    if (onWindows) return [];
    const secret = ['.', keyFile, ...(pfx === null ? [] : [pfxFile])];
    const modes = await Promise.all(
      secret.map(async (name) => ({ name, mode: (await stat(join(folder, name))).mode })),
    );
    return modes
      .filter(({ mode }) => (mode & 0o077) !== 0)
      .map(
        ({ name, mode }) => `${name === '.' ? 'the folder' : name} is open to others (${(mode & 0o777).toString(8)})`,
      );
  }

  async function differencesOf(place: Place, parts: PemParts, { thumbprint }: PublicCertificate): Promise<string[]> {
    const folder = await place.swap.open();
    if (folder === null) return [`${place.live} is missing`];
    const differences: string[] = [];
    for (const name of ['cert', 'chain', 'fullchain'] as const) {
      const data = await readSmall(join(folder, `${name}.pem`));
      if (data === null) differences.push(`${name}.pem is missing`);
      else if (!data.equals(Buffer.from(parts[name]))) differences.push(`${name}.pem is not that of ${thumbprint}`);
    }
    const key = await readSmall(join(folder, keyFile));
    if (key === null) differences.push(`${keyFile} is missing`);
    else if (!isKeyOf(parts.leaf, key.toString('utf8'))) differences.push(`${keyFile} is not the key of ${thumbprint}`);
    differences.push(...(await pfxDifference(folder, thumbprint)));
    return differences.length > 0 ? differences : modeDifferences(folder);
  }

  /** The certificate for which the command has succeeded. */
  async function commandDoneFor({ own }: Place): Promise<string | null> {
    const text = (await readSmall(join(own, commandState)))?.toString('utf8') ?? '';
    try {
      return stateSchema.parse(JSON.parse(text)).thumbprint;
    } catch {
      return null;
    }
  }

  /** Runs the command unless it has succeeded for what is there; answers whether it ran. */
  async function follow(place: Place, { thumbprint, names }: PublicCertificate, signal: AbortSignal): Promise<boolean> {
    if (command === null || (await withFiles('the state', () => commandDoneFor(place))) === thumbprint) return false;
    await withFiles('the state', () => mkdir(place.own, { recursive: true, mode: 0o700 }));
    const variables = {
      CERTLINE_FOLDER: place.live,
      CERTLINE_NAMES: names.join(' '),
      CERTLINE_THUMBPRINT: thumbprint,
    };
    await runCommand(command, { cwd: place.live, variables, log: join(place.own, commandLog), signal });
    const state = `${JSON.stringify({ thumbprint })}\n`;
    await withFiles('the state', () => replaceFile(join(place.own, commandState), state, { mode: ownerOnly, clock }));
    return true;
  }

  function requireCommands(): void {
    if (command !== null && !allowCommands)
      throw new CertlineError(
        'target_refused',
        'the target has a command, and this worker is not set up to run any: set ALLOW_COMMANDS=true for the deployment workers of its pool, or take the command away (`PATCH` with `"command": null`)',
      );
  }

  /** What `publish` needs besides writing. */
  async function tryLinks(): Promise<string> {
    if (swap === 'files') return 'not used here: files are replaced one by one, the key last';
    const [link, other] = [join(path, temporaryName()), join(path, temporaryName())];
    return withFiles('a link for the test', async () => {
      try {
        await symlink('one', link);
        await symlink('two', other);
        await renameOver(other, link, clock);
      } finally {
        for (const one of [link, other]) await rm(one, { force: true });
      }
      return 'a link was made, replaced and removed';
    });
  }

  async function tryCommand(): Promise<string> {
    if (command === null) return 'there is none';
    requireCommands();
    if (!isAbsolute(command.file)) throw new Error(`${command.file} is no absolute path on the machine of this worker`);
    await withFiles('the command', () => access(command.file, constants.X_OK));
    return `${command.file} is there and may be run; it was not`;
  }

  return {
    async deploy(certificate, { signal }) {
      requireCommands();
      const place = placeOf(certificate);
      const parts = pemParts(certificate);
      if (!isKeyOf(parts.leaf, certificate.privateKeyPem))
        throw new CertlineError('certificate_mismatch', 'The certificate is for another key');
      await requireFolder(path);
      const differences = await withFiles(place.live, () => differencesOf(place, parts, certificate));
      if (differences.length > 0) {
        const files = await filesOf(certificate, parts);
        signal.throwIfAborted();
        await withFiles(place.live, async () => {
          // First of all: once other files than these were there, the command has to run for them again.
          await mkdir(place.own, { recursive: true, mode: 0o700 });
          await rm(join(place.own, commandState), { force: true });
          await syncFolder(place.own);
          await place.swap.publish(files, signal);
        });
      }
      await place.swap.clean();
      const ran = await follow(place, certificate, signal);
      const written = differences.length > 0 ? `written to ${place.live}` : `${place.live} is as it should be`;
      return {
        changed: differences.length > 0 || ran,
        detail: ran ? `${written}; the command has succeeded` : written,
      };
    },

    async check(certificate) {
      const place = placeOf(certificate);
      const parts = pemParts(certificate);
      await requireFolder(path);
      const differences = await withFiles(place.live, () => differencesOf(place, parts, certificate));
      return { state: differences.length === 0 ? 'same' : 'different', differences };
    },

    test: (signal) =>
      runSteps(signal, [
        { step: 'folder', run: () => requireFolder(path).then(() => `${path} is there`) },
        { step: 'write', run: () => tryWriting(path, clock) },
        { step: 'links', run: tryLinks },
        { step: 'command', run: tryCommand },
      ]),
  };
}
