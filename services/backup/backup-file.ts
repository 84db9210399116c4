import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';

/**
 * A backup is a line of JSON (the header), then entries, then the trailer and the SHA-256 of all before. An entry is the length of the key
 * (32 bits, big-endian), the key, when it expires (ms since the epoch, a double; 0 is never), the length of its value, and the value as DUMP
 * gives it. A key may come more than once: the last one counts, and one without a value is gone. A length of 0 instead of a key ends them;
 * after it comes the length of the trailer, JSON too.
 */
const format = 1;

const headerSchema = z.object({
  certlineBackup: z.number(),
  namespace: z.string(),
  /** When it was begun, ISO 8601. */
  begunAt: z.string(),
  /** Version of the Redis that it is of. */
  redis: z.string(),
});

const trailerSchema = z.object({
  entries: z.number(),
  /** The moment that the copy is of, by the clock of Redis, ISO 8601. */
  takenAt: z.string(),
  /** What was sealed with each of the master keys that are needed, by their ids: shows whether a key is the right one. */
  masterKeys: z.record(z.string(), z.string()),
});

export type BackupHeader = Omit<z.infer<typeof headerSchema>, 'certlineBackup'>;
export type BackupTrailer = z.infer<typeof trailerSchema>;

/** A key of Redis as it was. */
export interface CopiedKey {
  key: string;
  /** Ms since the epoch; 0 is never. */
  expiresAt: number;
  /** As DUMP gives it; null when the key is gone. */
  value: Buffer | null;
}

function entryBytes({ key, expiresAt, value }: CopiedKey): Buffer[] {
  const name = Buffer.from(key);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(name.length);
  const middle = Buffer.alloc(12);
  middle.writeDoubleBE(expiresAt);
  middle.writeUInt32BE(value?.length ?? 0, 8);
  return value === null ? [head, name, middle] : [head, name, middle, value];
}

export interface BackupWriter {
  add(entries: readonly CopiedKey[]): Promise<void>;
  /** Ends the file, and gives it its name once all of it is on the disk. Answers its size in bytes. */
  finish(trailer: Omit<BackupTrailer, 'entries'>): Promise<number>;
  /** Takes away what was written. */
  discard(): Promise<void>;
}

/** A file that only this user may read, and that has its name when it is whole. Throws an Error when there is one of that name. */
export async function writeBackup(path: string, header: BackupHeader): Promise<BackupWriter> {
  const taken = await access(path).then(
    () => true,
    () => false,
  );
  if (taken) throw new Error(`${path} is there already: give another name`);
  const partial = `${path}.${process.pid}.partial`;
  const file = await open(partial, 'wx', 0o600);
  const hash = createHash('sha256');
  let entries = 0;

  async function write(...parts: Buffer[]): Promise<void> {
    const bytes = Buffer.concat(parts);
    hash.update(bytes);
    await file.appendFile(bytes);
  }

  await write(Buffer.from(`${JSON.stringify({ certlineBackup: format, ...header })}\n`));
  return {
    async add(more) {
      entries += more.length;
      await write(...more.flatMap(entryBytes));
    },
    async finish(trailer) {
      const text = Buffer.from(JSON.stringify({ entries, ...trailer }));
      const lengths = Buffer.alloc(8);
      lengths.writeUInt32BE(text.length, 4);
      await write(lengths, text);
      await file.appendFile(hash.digest());
      await file.sync();
      await file.close();
      await rename(partial, path);
      const folder = await open(dirname(path));
      await folder.sync().finally(() => folder.close());
      return (await stat(path)).size;
    },
    async discard() {
      await file.close();
      await rm(partial, { force: true });
    },
  };
}

/** The bytes of a file in order, and the SHA-256 of those that were taken. */
function piecesOf(path: string) {
  const stream = createReadStream(path, { highWaterMark: 1 << 20 });
  const chunks: AsyncIterator<Buffer> = stream[Symbol.asyncIterator]();
  const hash = createHash('sha256');
  let parts: Buffer[] = [];
  let have = 0;

  /** Reads on until there are so many bytes, or the file ends. */
  async function fill(count: number): Promise<boolean> {
    while (have < count) {
      const { value, done } = await chunks.next();
      if (done) return false;
      parts.push(value);
      have += value.length;
    }
    return true;
  }

  async function take(count: number): Promise<Buffer> {
    if (!(await fill(count))) throw new Error('it ends too early');
    const [first, ...others] = parts;
    const all = first && others.length === 0 ? first : Buffer.concat(parts);
    parts = [all.subarray(count)];
    have -= count;
    const taken = all.subarray(0, count);
    hash.update(taken);
    return taken;
  }

  return {
    take,
    digest: () => hash.copy().digest(),
    isAtEnd: async () => !(await fill(1)),
    close: () => stream.destroy(),
  };
}

type Pieces = ReturnType<typeof piecesOf>;

/** More than any header has. */
const longestHeader = 4_096;

async function readHeader(path: string, { take }: Pieces): Promise<BackupHeader> {
  let line = '';
  while (!line.endsWith('\n') && line.length < longestHeader)
    line += (await take(1).catch(() => '\n')).toString('latin1');
  const parsed = z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue('no JSON');
        return z.NEVER;
      }
    })
    .pipe(z.looseObject({ certlineBackup: z.number() }))
    .safeParse(line);
  if (!parsed.success) throw new Error(`${path} is no backup of certline`);
  const { certlineBackup } = parsed.data;
  if (certlineBackup > format)
    throw new Error(
      `${path} is of a newer certline (format ${certlineBackup}, known is ${format}): update certline first`,
    );
  return headerSchema.parse(parsed.data);
}

async function readEntry(length: number, { take }: Pieces): Promise<CopiedKey> {
  const key = (await take(length)).toString();
  const middle = await take(12);
  const size = middle.readUInt32BE(8);
  return { key, expiresAt: middle.readDoubleBE(0), value: size === 0 ? null : await take(size) };
}

/**
 * Reads a backup and gives out its entries in order; when it resolves, it was whole and unchanged. Throws an Error that says what is wrong
 * with it, then possibly after entries were given out.
 */
export async function readBackup(
  path: string,
  onEntry: (entry: CopiedKey) => Promise<void> | void = () => {},
): Promise<BackupHeader & BackupTrailer> {
  await access(path);
  const pieces = piecesOf(path);
  try {
    const header = await readHeader(path, pieces);
    try {
      let entries = 0;
      for (;;) {
        const length = (await pieces.take(4)).readUInt32BE();
        if (length === 0) break;
        await onEntry(await readEntry(length, pieces));
        entries += 1;
      }
      const text = await pieces.take((await pieces.take(4)).readUInt32BE());
      const digest = pieces.digest();
      if (!digest.equals(await pieces.take(digest.length))) throw new Error('its checksum does not fit');
      const trailer = trailerSchema.parse(JSON.parse(text.toString()));
      if (trailer.entries !== entries || !(await pieces.isAtEnd())) throw new Error('its end does not fit');
      return { ...header, ...trailer };
    } catch (cause) {
      // Whatever else a changed length or name leads to.
      throw new Error(`${path} is cut off or was changed: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
  } finally {
    pieces.close();
  }
}
