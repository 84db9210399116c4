import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BindingPlan, type BindingPlanOptions, planBindings } from '#libs/iis/binding-plan';
import type { Binding, HostState, IisHost, Site } from '#libs/iis/iis-host';
import { createPowerShellHost } from '#libs/iis/powershell-host';
import { putBack } from '#libs/iis/put-back';
import { type ScriptName, scriptText } from '#libs/iis/script-text';
import { ApplicationHostConfig } from '../../services/lab/iis-host/application-host-config.ts';
import {
  createMachine,
  type HttpSysRecord,
  type Machine,
  openScriptSession,
  type ScriptSession,
  withoutPowerShell,
} from '../support/powershell.ts';
import { ownCases } from '../unit/iis/own-cases.ts';
import { hostOf, httpsLine, optionsOf, planCases } from '../unit/iis/plan-cases.ts';
import { wantedOf } from '../unit/iis/wanted-bindings.ts';

/** What a case starts from and what the host must be in the end; certificates have short names such as `OLD`. */
interface HostCase {
  host: HostState;
  names: readonly string[];
  options: BindingPlanOptions;
  after: Record<string, string[]>;
  ftp: Record<string, string | null>;
}

const hostCases: [string, HostCase][] = [
  ...planCases.map((one): [string, HostCase] => {
    const names = one.request.allNames ?? one.request.names;
    return [one.id, { host: hostOf(one), names, options: optionsOf(one), after: wantedOf(one), ftp: {} }];
  }),
  ...ownCases.map((one): [string, HostCase] => [one.id, { ...one, ftp: one.ftp ?? {} }]),
];

const shortNames = new Map<string, string>();
/** A thumbprint for a short name. */
function thumbprintOf(name: string): string {
  const hex = createHash('sha1').update(name).digest('hex').toUpperCase();
  shortNames.set(hex, name);
  return hex;
}
const nameOf = (thumbprint: string | null) => (thumbprint === null ? null : (shortNames.get(thumbprint) ?? thumbprint));

type Placed = Pick<Binding, 'protocol' | 'bindingInformation' | 'sslFlags'>;

/** The record of http.sys that an https binding takes its certificate from, as the stand-in names it. */
function recordOf({ protocol, bindingInformation, sslFlags }: Placed): string | null {
  const [, ip = '', port, host = ''] = /^(.*):(\d+):([^:]*)$/.exec(bindingInformation) ?? [];
  if (protocol !== 'https' || port === undefined || (sslFlags & 2) !== 0) return null;
  if ((sslFlags & 1) !== 0) return `${host.toLowerCase()}:${port}`;
  return `${['', '*'].includes(ip) ? '0.0.0.0' : ip}:${port}`;
}

/** The http.sys table of a host, in which all bindings of a record must agree. */
function tableOf(bindings: readonly Binding[]): Record<string, HttpSysRecord> {
  const table: Record<string, HttpSysRecord> = {};
  for (const binding of bindings) {
    const key = recordOf(binding);
    if (key === null || binding.thumbprint === null) continue;
    const Hash = thumbprintOf(binding.thumbprint);
    if (table[key] && table[key].Hash !== Hash) throw new Error(`the case has two certificates for ${key}`);
    table[key] = { Hash, Store: binding.store ?? 'My', Flags: binding.sslFlags };
  }
  return table;
}

const attribute = (text: string) => text.replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;');

function siteXml({ id, name, bindings, ftp }: Site): string {
  const lines = bindings.map(({ protocol, bindingInformation, sslFlags }) => {
    const flags = sslFlags === 0 ? '' : ` sslFlags="${sslFlags}"`;
    return `<binding protocol="${protocol}" bindingInformation="${attribute(bindingInformation)}"${flags} />`;
  });
  const hash = ftp?.thumbprint ? ` serverCertHash="${thumbprintOf(ftp.thumbprint)}" serverCertStoreName="My"` : '';
  const security = ftp ? `<ftpServer><security><ssl${hash} /></security></ftpServer>` : '';
  const root = `<virtualDirectory path="/" physicalPath="C:\\sites\\${id}" />`;
  return `<site name="${attribute(name)}" id="${id}"><application path="/">${root}</application><bindings>${lines.join('')}</bindings>${security}</site>`;
}

function createCaseMachine({ sites, iisMajor, osBuild }: HostState): Promise<Machine> {
  const states = { Started: 'Started', Stopped: 'Stopped', Unknown: 'error' };
  return createMachine({
    config: sites.map(siteXml).join(''),
    httpSys: tableOf(sites.flatMap(({ bindings }) => bindings)),
    siteState: Object.fromEntries(sites.map(({ id, state }) => [id, states[state]])),
    env: { FAKE_IIS_MAJOR: String(iisMajor), FAKE_OS_BUILD: String(osBuild), FAKE_IIS_SKIP_CERT_CHECK: '1' },
  });
}

/** Configuration and http.sys table as they lie on the disk of the machine. */
async function filesOf(machine: Machine) {
  const sites = new ApplicationHostConfig(await machine.config()).sites();
  return { sites, table: await machine.httpSys() };
}

type Files = Awaited<ReturnType<typeof filesOf>>;

/** The https bindings of every site, each with what http.sys has for it. */
function linesOf({ sites, table }: Files): Record<string, string[]> {
  const entries = sites.map(({ id, bindings }): [number, string[]] => {
    const https = bindings.filter(({ protocol }) => protocol === 'https');
    const served = https.map((one) => {
      const record = table[recordOf(one) ?? ''];
      return httpsLine({ ...one, thumbprint: nameOf(record?.Hash ?? null), store: record?.Store ?? null });
    });
    return [id, served.sort()];
  });
  return Object.fromEntries(entries);
}

/** What is not about certificates. */
const othersOf = ({ sites }: Files) =>
  sites.map(({ id, name, bindings }) => ({ id, name, bindings: bindings.filter((one) => one.protocol !== 'https') }));

const recordsOf = ({ table }: Files) =>
  Object.fromEntries(Object.entries(table).map(([key, { Hash, Store }]) => [key, `${nameOf(Hash)} in ${Store}`]));

/** The table that the wanted lines come to: every record that a binding has, and none besides. */
function wantedRecords(after: Record<string, string[]>): Record<string, string> {
  const lines = Object.values(after).flat();
  const records = lines.flatMap((line): [string, string][] => {
    const [, bindingInformation = '', flags, certificate = ''] = /^(\S*) flags (\d+) (.*)$/.exec(line) ?? [];
    const key = recordOf({ protocol: 'https', bindingInformation, sslFlags: Number(flags) });
    return key === null || certificate.startsWith('null') ? [] : [[key, certificate]];
  });
  return Object.fromEntries(records);
}

function ftpOf({ sites }: Files): Record<string, string | null> {
  return Object.fromEntries(sites.flatMap(({ id, ftp }) => (ftp ? [[id, nameOf(ftp.thumbprint)]] : [])));
}

describe.skipIf(withoutPowerShell)('planner, script and IIS together', () => {
  let session: ScriptSession;
  beforeAll(async () => {
    session = await openScriptSession();
  }, 300_000);
  afterAll(() => session?.close());
  const signal = new AbortController().signal;

  function hostOn(machine: Machine): IisHost {
    const scripts = new Map((['inspect', 'apply-changes'] satisfies ScriptName[]).map((one) => [scriptText(one), one]));
    const runner = {
      run: async (script: string, request: object) => {
        const name = scripts.get(script);
        if (name === undefined) throw new Error('a script that this test does not know');
        return (await session.run(machine, name, request)).answer;
      },
      connect: async () => ({ place: machine.dir, hostKey: null }),
      close: async () => {},
    };
    return createPowerShellHost(runner, '127.0.0.1', { commitAttempts: 1 });
  }

  function planFor({ names, options }: HostCase, state: HostState): BindingPlan {
    const old = options.oldThumbprint === undefined ? {} : { oldThumbprint: thumbprintOf(options.oldThumbprint) };
    const ours = options.ours ? { ours: new Set([...options.ours].map(thumbprintOf)) } : {};
    return planBindings(state, { names, thumbprint: thumbprintOf('NEW') }, { ...options, ...old, ...ours });
  }

  it.each(hostCases)('%s ends with the configuration and the http.sys table we want', async (_, one) => {
    const machine = await createCaseMachine(one.host);
    try {
      const initial = await filesOf(machine);
      const host = hostOn(machine);
      const before = await host.read(signal);
      expect(before).toMatchObject({ iisMajor: one.host.iisMajor, osBuild: one.host.osBuild });
      const plan = planFor(one, before);
      await host.apply(plan.changes, signal);

      const files = await filesOf(machine);
      expect(linesOf(files)).toEqual(one.after);
      expect(recordsOf(files)).toEqual(wantedRecords(one.after));
      expect(ftpOf(files)).toEqual(one.ftp);
      expect(othersOf(files)).toEqual(othersOf(initial));
      expect((await machine.commits()).commits).toBe(plan.changes.length === 0 ? 0 : 1);
      expect(planFor(one, await host.read(signal)).changes).toEqual([]);
    } finally {
      await machine.close();
    }
  });

  it.each(hostCases)('%s is as it was when it is put back', async (_, one) => {
    const machine = await createCaseMachine(one.host);
    try {
      const initial = await filesOf(machine);
      const host = hostOn(machine);
      const before = await host.read(signal);
      const { changes } = planFor(one, before);
      await host.apply(changes, signal);
      await host.apply(putBack(before, await host.read(signal), changes), signal);

      const files = await filesOf(machine);
      expect(linesOf(files)).toEqual(linesOf(initial));
      expect(recordsOf(files)).toEqual(recordsOf(initial));
      expect(ftpOf(files)).toEqual(ftpOf(initial));
      expect(othersOf(files)).toEqual(othersOf(initial));
    } finally {
      await machine.close();
    }
  });
});
