import { z } from 'zod';
import { CertlineError } from '../errors.ts';
import type { Keys } from './keys.ts';
import type { RedisClient } from './redis.ts';

const bindingSchema = z.object({
  protocol: z.string(),
  bindingInformation: z.string(),
  sslFlags: z.number().int(),
  thumbprint: z.string().nullable(),
  store: z.string().nullable(),
});

const changeSchema = z.object({
  op: z.enum(['add', 'update', 'remove']),
  siteId: z.number().int(),
  protocol: z.enum(['https', 'ftp']),
  bindingInformation: z.string(),
  sslFlags: z.number().int(),
  thumbprint: z.string().nullable(),
  store: z.string().nullable(),
  expect: z.object({ thumbprint: z.string().nullable(), sslFlags: z.number().int() }).nullable(),
});

const undoRecordSchema = z.object({
  /** Of the commit: nobody takes away another one's record. */
  id: z.string(),
  /** Milliseconds since the epoch. */
  savedAt: z.number(),
  /** The host of the commit: its target may be pointed at another one since. */
  place: z.string(),
  /** The host before the commit, no more of it than what the commit touches. */
  before: z.object({
    iisMajor: z.number().int(),
    osBuild: z.number().int(),
    sites: z.array(
      z.object({
        id: z.number().int(),
        name: z.string(),
        state: z.enum(['Started', 'Stopped', 'Unknown']),
        bindings: z.array(bindingSchema),
        ftp: z.object({ thumbprint: z.string().nullable(), store: z.string().nullable() }).nullable(),
      }),
    ),
  }),
  /** The changes, by the certificate they are for. */
  parts: z.array(
    z.object({
      /** Absent in what an earlier version has written. */
      order: z.string().exactOptional(),
      certificate: z.object({ thumbprint: z.string(), names: z.array(z.string()) }),
      changes: z.array(changeSchema),
    }),
  ),
});
export type UndoRecord = z.infer<typeof undoRecordSchema>;

/** What a commit to a host is taken back with: one record per target, from before the commit until it is verified. */
export interface UndoRecords {
  get(target: string): Promise<UndoRecord | null>;
  has(target: string): Promise<boolean>;
  /** Throws `plan_drifted` while another commit's record is there; saving the same one twice is harmless. */
  save(target: string, record: UndoRecord): Promise<void>;
  /** Takes the record with this id away, if it is the one that is there. */
  remove(target: string, id: string): Promise<void>;
}

// The id is compared as the beginning of the text: `save` writes it there.
const removal = `if string.sub(redis.call('GET', KEYS[1]) or '', 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`;

export function createUndoRecords(redis: RedisClient, keys: Pick<Keys, 'undo'>): UndoRecords {
  return {
    async get(target) {
      const text = await redis.get(keys.undo(target));
      return text === null ? null : undoRecordSchema.parse(JSON.parse(text.slice(text.indexOf('\n') + 1)));
    },
    has: async (target) => (await redis.exists(keys.undo(target))) === 1,
    async save(target, record) {
      const text = `${record.id}\n${JSON.stringify(record)}`;
      // Answers what was there before: also what an earlier copy of this command, sent again after a reconnect, has put there.
      const earlier = await redis.set(keys.undo(target), text, 'NX', 'GET');
      if (earlier === null || earlier === text) return;
      throw new CertlineError('plan_drifted', 'another run has a commit to this host under way');
    },
    async remove(target, id) {
      await redis.eval(removal, 1, keys.undo(target), `${id}\n`);
    },
  };
}
