import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { CertlineError } from '#libs/errors';
import { type Transport, transportSchema } from '#libs/model/target';
import { problemsOf } from './problem-json.ts';

const [lab, , ssh] = transportSchema.options;

/** Fields of a transport that are to be other ones: those of its kind, or all of another kind. */
export const transportChange = z
  .strictObject({
    kind: z.enum(['lab', 'local', 'ssh']).optional(),
    url: lab.shape.url.optional(),
    host: ssh.shape.host.optional(),
    port: ssh.shape.port.unwrap().optional(),
    credential: ssh.shape.credential.optional(),
    hostKey: ssh.shape.hostKey.unwrap().optional(),
  })
  .describe('Fields to change; `"hostKey": null` forgets the pinned key. Another `kind` needs all of its fields');
export type TransportChange = z.output<typeof transportChange>;

/**
 * A transport with some of its fields changed. A host of another name is another machine, which has another key: the pinned one is
 * forgotten unless a new one is given. Throws `request_invalid` with the fields that do not make a transport.
 */
export function changedTransport(current: Transport, change: TransportChange): Transport {
  const { kind = current.kind, host } = change;
  const kept = kind === current.kind ? current : {};
  const moved = current.kind === 'ssh' && host !== undefined && host.toLowerCase() !== current.host.toLowerCase();
  const result = transportSchema.safeParse({ ...kept, ...(moved ? { hostKey: null } : {}), ...change, kind });
  if (result.success) return result.data;
  const problems = problemsOf(result.error).map((problem) => ({ ...problem, path: `transport.${problem.path}` }));
  const detail = problems.map(({ path, detail: words }) => `${path}: ${words}`).join('; ');
  throw new CertlineError('request_invalid', detail, { problems });
}

/** Whether a target that is there is reached as asked; a key that was pinned since is no difference. */
export function isSameTransport(current: Transport, asked: Transport): boolean {
  const pinnedSince = current.kind === 'ssh' && asked.kind === 'ssh' && asked.hostKey === null;
  return isDeepStrictEqual(pinnedSince ? { ...current, hostKey: null } : current, asked);
}
