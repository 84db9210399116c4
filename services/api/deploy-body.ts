import { z } from 'zod';
import { CertlineError, type ErrorCode, type Problem } from '#libs/errors';
import type { Deploy } from '#libs/model/order';
import type { Target } from '#libs/model/target';

/** A SID, or an account with or without its domain: what Windows takes for a name of somebody. */
const reader = /^(S-1-\d+(-\d+)+|[^"/\\[\]:;|=,+*?<>@\p{Cc}]+(\\[^"/\\[\]:;|=,+*?<>@\p{Cc}]+)?|[\w.-]+@[\w.-]+)$/u;

export const deployBody = z.strictObject({
  mode: z
    .enum(['site', 'auto', 'all', 'store', 'none'])
    .exactOptional()
    .describe(
      'By default `site` on IIS hosts, `store` at other targets, which take no other and no options. `site`: the bindings of one site; `auto`: every started site with a matching host name; `all`; `store`: import, bind nothing; `none`',
    ),
  target: z.string().optional().describe('A target; the source’s by default'),
  site: z.number().int().positive().optional().describe('Id of the IIS site; the source’s by default'),
  updateOnly: z.boolean().exactOptional().describe('Add no https bindings'),
  addMissing: z.boolean().exactOptional().describe('Also bind names that have no http binding'),
  blankHost: z.boolean().exactOptional().describe('Also bindings without a host name'),
  port: z.number().int().min(1).max(65_535).exactOptional().describe('Port of new bindings, 443 by default'),
  ip: z
    .union([z.literal('*'), z.ipv4(), z.ipv6()])
    .exactOptional()
    .describe('Address of new bindings, `*` by default'),
  sni: z
    .boolean()
    .exactOptional()
    .describe(
      '`false`: new bindings without SNI, for clients that do not know it; all on one address and port then share one certificate',
    ),
  store: z.enum(['My', 'WebHosting']).exactOptional().describe('Certificate store, `My` by default'),
  replace: z
    .enum(['any', 'ours'])
    .exactOptional()
    .describe('`ours`: leave bindings alone that carry a certificate of somebody else; `any` by default'),
  exportable: z
    .boolean()
    .exactOptional()
    .describe('Whether the private key may be exported from the host again; not by default'),
  readers: z
    .array(z.string().max(256).regex(reader, 'a SID, or an account such as `IIS AppPool\\shop` or `NT SERVICE\\name`'))
    .max(20)
    .exactOptional()
    .describe('SIDs or accounts that may read the private key, besides the administrators and IIS itself'),
  planHash: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'the `planHash` of a preview')
    .exactOptional()
    .describe('Of the preview: with another plan than that nothing is changed'),
});
export type DeployBody = z.output<typeof deployBody>;

/** One field of a request as the error that names it. */
export function invalid(path: string, code: ErrorCode, detail: string): CertlineError {
  return new CertlineError(code, detail, { problems: [{ path, code, detail }] });
}

/** To a target that is no IIS host a certificate goes as it is: there is nothing to choose. */
function deliveryOf({ mode = 'store', target: _target, ...options }: DeployBody, { id, kind }: Target): Deploy {
  const wrong = [...(mode === 'store' ? [] : ['mode']), ...Object.keys(options)];
  const problems = wrong.map((field): Problem => {
    const detail =
      field === 'mode' ? `a target of kind ${kind} takes no mode but store` : `is for IIS hosts, and ${id} is none`;
    return { path: `deploy.${field}`, code: 'request_invalid', detail };
  });
  if (problems.length === 0) return { mode: 'store', target: id };
  const detail = problems.map((problem) => `${problem.path}: ${problem.detail}`).join('; ');
  throw new CertlineError('request_invalid', detail, { problems });
}

/**
 * What a request's `deploy` means, with what its source says for it. `source` is the site that the names come from, if they come from one.
 * Throws with the field that is wrong; `findTarget` throws when there is no such target.
 */
export async function deployOf(
  deploy: DeployBody | undefined,
  source: { target: string; site: number } | undefined,
  findTarget: (id: string, path: string) => Promise<Target>,
): Promise<Deploy> {
  if (!deploy) return source ? { mode: 'site', target: source.target, site: source.site } : { mode: 'none' };
  const { mode = 'site', target = source?.target, site, ...options } = deploy;
  if (mode === 'none') return { mode };
  if (target === undefined) throw invalid('deploy.target', 'request_invalid', 'name the target to deploy to');
  const found = await findTarget(target, 'deploy.target');
  if (found.kind !== 'iis') return deliveryOf(deploy, found);
  const chosen = site ?? (target === source?.target ? source.site : undefined);
  if (mode !== 'site') return { mode, target, ...options };
  if (chosen === undefined)
    throw invalid('deploy.site', 'request_invalid', 'name the site to deploy to, or another mode');
  return { mode, target, site: chosen, ...options };
}
