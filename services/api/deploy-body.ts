import { z } from 'zod';
import type { Target } from '#libs/model/target';

/** A SID, or an account with or without its domain: what Windows takes for a name of somebody. */
const reader = /^(S-1-\d+(-\d+)+|[^"/\\[\]:;|=,+*?<>@\p{Cc}]+(\\[^"/\\[\]:;|=,+*?<>@\p{Cc}]+)?|[\w.-]+@[\w.-]+)$/u;

const planHash = z.string().regex(/^[0-9a-f]{64}$/, 'the `planHash` of a preview');
const site = z.number().int().positive();
/** Targets of one order, at the most. */
const maxTargets = 500;

const namedTarget = z.strictObject({
  target: z.string(),
  site: site.exactOptional().describe('Id of the IIS site there; `deploy.site` by default'),
  planHash: planHash.exactOptional().describe('Of the preview, for this target'),
});
export type NamedTarget = z.output<typeof namedTarget>;

export const deployBody = z.strictObject({
  mode: z
    .enum(['site', 'auto', 'all', 'store', 'none'])
    .exactOptional()
    .describe(
      'By default `site` on IIS hosts, `store` at other targets, which take no other and no options. `site`: the bindings of one site; `auto`: every started site with a matching host name; `all`; `store`: import, bind nothing; `none`',
    ),
  target: z.string().exactOptional().describe('A target; the source’s by default'),
  targets: z
    .array(
      z.union([z.string(), namedTarget], {
        error: 'the id of a target, or an object with its id as `target`, and `site` (a number) or `planHash`',
      }),
    )
    .min(1)
    .max(maxTargets)
    .exactOptional()
    .describe(
      'Several targets instead of one, in the order they are deployed to. All other options apply to all IIS hosts among them; other targets take the certificate as it is',
    ),
  waves: z
    .array(
      z.union([z.number().int().positive(), z.literal('rest')], {
        error: 'how many targets the wave has, 1 or more, or "rest"',
      }),
    )
    .min(1)
    .max(maxTargets)
    .exactOptional()
    .describe(
      'How many of `targets` are deployed to at a time; `rest`, as the last, is all that are left. A wave begins when all targets of the one before have the certificate. Without it all are one wave',
    ),
  site: site
    .exactOptional()
    .describe('Id of the IIS site, with `targets` of all that name none; the source’s by default, on its target'),
  updateOnly: z.boolean().exactOptional().describe('Add no https bindings'),
  addMissing: z.boolean().exactOptional().describe('Also bind names that have no http binding'),
  blankHost: z.boolean().exactOptional().describe('Also bindings without a host name'),
  port: z.number().int().min(1).max(65_535).exactOptional().describe('Port of new bindings, 443 by default'),
  ip: z
    .union([z.literal('*'), z.ipv4(), z.ipv6()], { error: 'an IPv4 address, an IPv6 address without brackets, or *' })
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
  planHash: planHash.exactOptional().describe('Of the preview: with another plan than that nothing is changed'),
});
export type DeployBody = z.output<typeof deployBody>;

/** The site that the names of an order come from. */
export interface SourceSite {
  target: string;
  site: number;
}
/** A target that a request names at `path`. Throws `target_unknown` with that field. */
export type FindTarget = (id: string, path: string) => Promise<Target>;
