import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';

const journalName = 'commit.journal';
const journalSchema = z.record(z.string(), z.string());

/** Text of a file, null when there is none. */
export async function readIfThere(path: string): Promise<string | null> {
  return existsSync(path) ? await readFile(path, 'utf8') : null;
}

/** Writes a file so that a kill leaves the old one or the new one whole. */
export async function writeWhole(path: string, text: string, mode = 0o644): Promise<void> {
  const temporary = `${path}.new`;
  await mkdir(dirname(path), { recursive: true });
  await writeFile(temporary, text, { mode });
  await rename(temporary, path);
}

/** Writes several files of a folder so that a kill leaves all old or, after `finishInterrupted`, all new. */
export async function writeTogether(dir: string, files: Record<string, string>): Promise<void> {
  await writeWhole(join(dir, journalName), JSON.stringify(files));
  await finishInterrupted(dir);
}

/** Carries out what a killed process had decided to write. */
export async function finishInterrupted(dir: string): Promise<void> {
  const journal = await readIfThere(join(dir, journalName));
  if (journal === null) return;
  for (const [name, text] of Object.entries(journalSchema.parse(JSON.parse(journal)))) {
    await writeWhole(join(dir, name), text);
  }
  await rm(join(dir, journalName));
}
