import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { CertlineError, type Problem } from '#libs/errors';
import type { Credential, CredentialKind } from '#libs/model/credential';
import { type Target, targetCommon, targetSchema, targetSettings } from '#libs/model/target';
import type { RecordStore } from '#libs/store/records';
import { invalid } from './field-problems.ts';
import { changedTransport, isSameTransport, transportChange } from './transport-change.ts';

const { iis, folder, ccs, webhook } = targetSettings;

export const targetBody = z.discriminatedUnion(
  'kind',
  [
    z.strictObject({ ...targetCommon, ...iis.shape }),
    z.strictObject({ ...targetCommon, ...folder.shape }),
    z.strictObject({ ...targetCommon, ...ccs.shape }),
    z.strictObject({ ...targetCommon, ...webhook.shape }),
  ],
  { error: ({ code }) => (code === 'invalid_union' ? `one of ${Object.keys(targetSettings).join(', ')}` : undefined) },
);
export type TargetBody = z.output<typeof targetBody>;

/** Fields of a target that are to be other ones: only those of its kind. */
export const targetChange = z.strictObject({
  name: targetCommon.name.optional(),
  pool: targetCommon.pool.unwrap().optional(),
  windows: targetCommon.windows.unwrap().optional(),
  drift: targetCommon.drift.unwrap().optional(),
  transport: transportChange.optional().describe('Of `iis`'),
  path: folder.shape.path.optional().describe('Of `folder` and `ccs`'),
  pfx: folder.shape.pfx.unwrap().optional().describe('Of `folder`; replaced as a whole'),
  command: folder.shape.command.unwrap().optional().describe('Of `folder`; replaced as a whole'),
  credential: ccs.shape.credential.optional().describe('Of `ccs` and `webhook`'),
  form: ccs.shape.form.unwrap().optional().describe('Of `ccs`'),
  url: webhook.shape.url.optional().describe('Of `webhook`'),
  caBundle: webhook.shape.caBundle.unwrap().optional().describe('Of `webhook`'),
});
export type TargetChange = z.output<typeof targetChange>;

/** A target with some of its fields changed. Throws `request_invalid` with the fields that its kind does not have. */
export function changedTarget(target: Target, change: TargetChange): Target {
  const known = { ...targetCommon, ...targetSettings[target.kind].shape };
  const { transport, ...others } = change;
  const problems = Object.keys(change)
    .filter((field) => !Object.hasOwn(known, field))
    .map((path): Problem => {
      return { path, code: 'request_invalid', detail: `a target of kind ${target.kind} has no ${path}` };
    });
  if (problems.length > 0)
    throw new CertlineError('request_invalid', problems.map(({ detail }) => detail).join('; '), { problems });
  const moved = target.kind === 'iis' && transport ? { transport: changedTransport(target.transport, transport) } : {};
  return targetSchema.parse({ ...target, ...others, ...moved });
}

/** Whether a target that is there is what is asked for; a host key that was pinned since is no difference. */
export function isSameTarget(target: Target, body: TargetBody): boolean {
  const { id: _id, createdAt: _createdAt, ...has } = target;
  const wants = { ...body, name: target.name };
  if (has.kind !== 'iis' || wants.kind !== 'iis') return isDeepStrictEqual(has, wants);
  const transport = null;
  return (
    isSameTransport(has.transport, wants.transport) && isDeepStrictEqual({ ...has, transport }, { ...wants, transport })
  );
}

interface CredentialUse {
  /** The field that names it. */
  path: string;
  credential: string;
  kind: CredentialKind;
}

/** The credentials that a target needs. */
export function credentialsOf(target: TargetBody | Target): CredentialUse[] {
  switch (target.kind) {
    case 'iis':
      return target.transport.kind === 'ssh'
        ? [{ path: 'transport.credential', credential: target.transport.credential, kind: 'ssh' }]
        : [];
    case 'folder':
      return target.pfx ? [{ path: 'pfx.credential', credential: target.pfx.credential, kind: 'secret' }] : [];
    case 'ccs':
    case 'webhook':
      return [{ path: 'credential', credential: target.credential, kind: 'secret' }];
  }
}

/** Throws `credential_unknown`, or `request_invalid` for one of another kind, with the field that names it. */
export async function checkCredentials(
  target: TargetBody | Target,
  credentials: Pick<RecordStore<Credential>, 'get'>,
): Promise<void> {
  for (const { path, credential, kind } of credentialsOf(target)) {
    const found = await credentials.get(credential);
    if (found === null) throw invalid(path, 'credential_unknown', `there is no credential ${credential}`);
    if (found.kind !== kind)
      throw invalid(path, 'request_invalid', `${credential} is of kind ${found.kind}: give one of kind ${kind}`);
  }
}
