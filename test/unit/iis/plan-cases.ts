import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { type BindingPlan, type BindingPlanOptions, planBindings } from '#libs/iis/binding-plan';
import type { Binding, BindingChange, HostState, Site } from '#libs/iis/iis-host';

const bindingSchema = z.object({
  protocol: z.string(),
  ip: z.string(),
  port: z.number(),
  host: z.string(),
  sslFlags: z.number().default(0),
  thumbprint: z.string().nullable().default(null),
  store: z.string().nullable().default(null),
});
const planCaseSchema = z.object({
  id: z.string(),
  kind: z.literal('plan'),
  iisVersion: z.number(),
  sites: z.array(
    z.object({
      id: z.number(),
      name: z.string(),
      state: z.enum(['Started', 'Stopped', 'Unknown']),
      bindings: z.array(bindingSchema),
    }),
  ),
  request: z.object({
    names: z.array(z.string()),
    allNames: z.array(z.string()).optional(),
    mode: z.enum(['single', 'auto', 'all', 'updateOnly']),
    targetSite: z.number().optional(),
    oldThumbprint: z.string().nullish(),
    blankHost: z.boolean().optional(),
    bindingIp: z.string().optional(),
    bindingPort: z.number().optional(),
    /** Certify's "perform automated binding": discards the IP and port options. */
    autoBinding: z.boolean().optional(),
    store: z.string().optional(),
  }),
  expected: z.object({
    final: z.record(z.string(), z.array(bindingSchema)).optional(),
    touched: z.array(z.string()).optional(),
  }),
});
const matchCaseSchema = z.object({
  id: z.string(),
  kind: z.literal('match'),
  rows: z.array(z.object({ names: z.array(z.string()), host: z.string(), expected: z.boolean() })),
});
export type PlanCase = z.infer<typeof planCaseSchema>;

export const cases = z
  .array(z.discriminatedUnion('kind', [planCaseSchema, matchCaseSchema]))
  .parse(JSON.parse(readFileSync(new URL('cases.json', import.meta.url), 'utf8')));
export const planCases = cases.filter((one) => one.kind === 'plan');

export function toBinding({ ip, port, host, ...rest }: z.infer<typeof bindingSchema>): Binding {
  return { ...rest, bindingInformation: `${ip}:${port}:${host}` };
}

export function hostOf(one: PlanCase): HostState {
  return {
    iisMajor: one.iisVersion,
    osBuild: 20_348,
    sites: one.sites.map((site) => ({ ...site, bindings: site.bindings.map(toBinding), ftp: null })),
  };
}

export function optionsOf({ request }: PlanCase): BindingPlanOptions {
  const options: BindingPlanOptions = {
    mode: request.mode === 'single' ? 'site' : request.mode === 'updateOnly' ? 'all' : request.mode,
    store: request.store ?? 'My',
    updateOnly: request.mode === 'updateOnly',
    blankHost: request.blankHost ?? false,
  };
  if (request.targetSite !== undefined) options.site = request.targetSite;
  if (request.oldThumbprint) options.oldThumbprint = request.oldThumbprint;
  if (request.bindingIp !== undefined && !request.autoBinding) options.ip = request.bindingIp;
  if (request.bindingPort !== undefined && !request.autoBinding) options.port = request.bindingPort;
  return options;
}

export function planCase(id: string, more: Partial<BindingPlanOptions> = {}): BindingPlan {
  const one = planCases.find((candidate) => candidate.id === id);
  if (!one) throw new Error(`no case ${id}`);
  const names = one.request.allNames ?? one.request.names;
  return planBindings(hostOf(one), { names, thumbprint: 'NEW' }, { ...optionsOf(one), ...more });
}

/** What the sites look like after the changes; throws where IIS would refuse one. */
export function applyPlan(sites: readonly Site[], changes: readonly BindingChange[]): Site[] {
  const after = structuredClone(sites) as Site[];
  for (const change of changes) {
    const { op, siteId, protocol, bindingInformation, sslFlags, thumbprint, store, expect: before } = change;
    const bindings = after.find(({ id }) => id === siteId)?.bindings ?? [];
    const at = bindings.findIndex((one) => one.protocol === 'https' && one.bindingInformation === bindingInformation);
    const current = bindings[at];
    if ((op === 'add') === (current !== undefined)) throw new Error(`cannot ${op} ${bindingInformation}`);
    if (before?.thumbprint !== current?.thumbprint || before?.sslFlags !== current?.sslFlags) {
      throw new Error(`${bindingInformation} is not as it was planned on`);
    }
    bindings.splice(current ? at : bindings.length, current ? 1 : 0, {
      protocol,
      bindingInformation,
      sslFlags,
      thumbprint,
      store,
    });
  }
  return after;
}

export const httpsLine = (one: Binding) =>
  `${one.bindingInformation} flags ${one.sslFlags} ${one.thumbprint} in ${one.store}`;

export function httpsOf(sites: readonly Site[]): Record<string, string[]> {
  const entries = sites.map((site): [number, string[]] => [
    site.id,
    site.bindings
      .filter((one) => one.protocol === 'https')
      .map(httpsLine)
      .sort(),
  ]);
  return Object.fromEntries(entries);
}

/** Short ways to write hosts and plans. */
export function https(bindingInformation: string, sslFlags: number, thumbprint: string | null): Binding {
  return { protocol: 'https', bindingInformation, sslFlags, thumbprint, store: 'My' };
}
export function http(bindingInformation: string): Binding {
  return { protocol: 'http', bindingInformation, sslFlags: 0, thumbprint: null, store: null };
}
export function hostWith(sites: Record<number, Binding[]>, iisMajor = 10): HostState {
  const list = Object.entries(sites).map(([id, bindings]): Site => {
    return { id: Number(id), name: `site${id}`, state: 'Started', bindings, ftp: null };
  });
  return { iisMajor, osBuild: 20_348, sites: list };
}
export const site1: BindingPlanOptions = { mode: 'site', site: 1, store: 'My' };
export const certificate = (...names: string[]) => ({ names, thumbprint: 'NEW' });
export const lines = (plan: BindingPlan) =>
  plan.changes.map((one) => `${one.op} ${one.siteId} ${one.bindingInformation} ${one.sslFlags}`);
