import { z } from 'zod';
import type { HostState } from '#libs/iis/iis-host';
import type { Account } from '#libs/model/account';
import { namePolicyOf, siteNamesOf } from './site-names.ts';

export const sitesQuery = z.strictObject({
  account: z.string().optional().describe('Judge the names as for an order with this account'),
});

const servedView = { thumbprint: z.string().nullable(), store: z.string().nullable() };

export const sitesView = z.object({
  items: z.array(
    z.object({
      id: z.number(),
      name: z.string(),
      state: z.string(),
      names: z
        .array(
          z.object({
            host: z.string(),
            usable: z.boolean().describe('Whether an order from this site would ask for it'),
            code: z.string().nullable().describe('Why not'),
            detail: z.string().nullable(),
          }),
        )
        .describe('The host names of its http and https bindings'),
      bindings: z.array(
        z.object({
          protocol: z.string(),
          bindingInformation: z.string(),
          sslFlags: z.number(),
          ...servedView,
        }),
      ),
      ftp: z.object(servedView).nullable().describe('The certificate of its ftp bindings; null without any'),
    }),
  ),
});

/** The sites of a host with the names that a certificate could be ordered for, and why the others not. */
export function sitesAnswer(state: HostState, account: Account | null): z.input<typeof sitesView> {
  const policy = namePolicyOf(account);
  const items = state.sites.map(({ id, name, state: siteState, bindings, ftp }) => ({
    ...{ id, name, state: siteState, bindings, ftp },
    names: siteNamesOf(state, id, policy).map(({ host, problem }) => ({
      host,
      usable: problem === null,
      code: problem?.code ?? null,
      detail: problem?.detail ?? null,
    })),
  }));
  return { items };
}
