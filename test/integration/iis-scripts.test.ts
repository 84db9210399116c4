import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootstrapCommand, type ScriptName, scriptText } from '#libs/iis/script-text';
import { siteXml } from '../support/iis-config.ts';
import {
  createMachine,
  lintScripts,
  type Machine,
  type MachineOptions,
  openScriptSession,
  runScript,
  type ScriptSession,
  withoutPowerShell,
} from '../support/powershell.ts';

const A = 'A'.repeat(40);
const names = readdirSync(new URL('../../libs/iis/scripts', import.meta.url))
  .filter((file) => file !== 'prelude.ps1')
  .map((file) => file.replace('.ps1', '') as ScriptName);

describe('the text of a script', () => {
  it.each(names)('%s is ASCII, which every code page reads alike', (name) => {
    expect(scriptText(name)).toMatch(/^[\n\x20-\x7e]*$/);
  });

  it('names the stores of the machine in one place', () => {
    for (const name of names) expect(scriptText(name).split("'LocalMachine'")).toHaveLength(2);
  });

  it('is not on the command line, which is the same for all, short, and free of what a shell would read', () => {
    expect(bootstrapCommand()).toMatch(/^[\w.=/+ -]{100,1000}$/);
  });
});

/** Scripts that Windows PowerShell 5.1 does not run, or runs otherwise, each with the rule that finds it. */
const wrong = [
  ['$a = $true ? 1 : 2', 'ternary'],
  ["$b = $null ?? 'x'", 'coalesce'],
  ["$b = 1; $b ??= 'x'", 'coalesce'],
  ['$c = (1)?.Length', 'nullcond'],
  ['Import-Thing && exit 1', 'chain'],
  ["Get-Content '/x'", 'command'],
  ["'x' | ConvertFrom-Json -AsHashtable", 'parameter'],
  ['$h = [Convert]::ToHexString([byte[]](1,2))', 'member'],
  ["$p = [System.IO.Path]::Join('a','b')", 'member'],
  ['$l = [System.Security.Cryptography.X509Certificates.X509CertificateLoader]', 'type'],
  ['$n = 10u', 'number'],
  ['$e = "`u{1F600}"', 'escape'],
  ["if ($IsWindows) { 'w' }", 'variable'],
  ['@(1)\n  | ForEach-Object -Process { $_ }', 'pipe'],
  ['$host = 1', 'automatic'],
  ["$x = 'Shöp'", 'encoding'],
  ['if (', 'syntax'],
] as const;

describe.skipIf(withoutPowerShell)('the lint for Windows PowerShell 5.1', () => {
  let found: string[];
  beforeAll(async () => {
    const dir = await mkdtemp(join(tmpdir(), 'lint-'));
    const texts = [...names.map((name) => [name, scriptText(name)]), ...wrong.map(([text], i) => [`wrong-${i}`, text])];
    const files = texts.map(([name]) => join(dir, `${name}.ps1`));
    await Promise.all(texts.map(([, text = ''], i) => writeFile(files[i] ?? '', text)));
    found = (await lintScripts(files)).map((line) => line.slice(dir.length + 1));
    await rm(dir, { recursive: true, force: true });
  });

  it('finds nothing in the scripts', () => {
    expect(names).toHaveLength(8);
    expect(found.filter((line) => !line.startsWith('wrong-'))).toEqual([]);
  });

  it.each(wrong.map(([text, rule], i) => ({ text, rule, i })))('finds $rule in $text', ({ rule, i }) => {
    const rules = found.filter((line) => line.startsWith(`wrong-${i}.ps1:`)).map((line) => line.split(': ')[1]);
    expect(rules).toContain(rule);
  });
});

describe.skipIf(withoutPowerShell)('a script on a host', () => {
  const machines: Machine[] = [];
  let session: ScriptSession;
  beforeAll(async () => {
    session = await openScriptSession();
  });
  afterAll(async () => {
    await session?.close();
    await Promise.all(machines.map((machine) => machine.close()));
  });
  const machineWith = async (options: MachineOptions): Promise<Machine> => {
    const machine = await createMachine(options);
    machines.push(machine);
    return machine;
  };
  const shop = siteXml({
    ...{ id: 2, name: 'Sh\u00f6p "&" S\u00f6hne', physicalPath: '%FAKE_DRIVE%\\shop' },
    bindings: [
      { protocol: 'http', bindingInformation: '10.0.0.5:80:m\u00fcnchen.example.com' },
      { bindingInformation: '*:443:shop.example.com', sslFlags: 33 },
      { bindingInformation: '[2001:db8::1]:8443:' },
      { protocol: 'net.tcp', bindingInformation: '808:*' },
    ],
  });
  const http = { protocol: 'http', bindingInformation: '*:80:' };
  const ftp = { protocol: 'ftp', bindingInformation: '*:21:' };

  it('reads sites and bindings, whatever characters they have, and answers in ASCII', async () => {
    const httpSys = { 'shop.example.com:443': { Hash: A, Store: 'WebHosting', Flags: 33 } };
    const machine = await machineWith({ config: shop, httpSys, env: { FAKE_DRIVE: 'D:', FAKE_OS_BUILD: '17763' } });
    const { exit, stdout, answer } = await runScript(machine, 'inspect', {});
    expect(stdout).toMatch(/^[\x20-\x7e]*\r?\n$/);
    expect(exit).toBe(0);
    const none = { sslFlags: 0, thumbprint: null, store: null };
    expect(answer).toMatchObject({
      ok: true,
      iis: { major: 10, minor: 0, osBuild: 17763 },
      powershell: expect.stringMatching(/^\d+\.\d+/),
      sites: [
        {
          ...{ id: 2, name: 'Sh\u00f6p "&" S\u00f6hne', state: 'Started', physicalPath: 'D:\\shop', ftp: null },
          bindings: [
            { protocol: 'http', bindingInformation: '10.0.0.5:80:m\u00fcnchen.example.com', ...none },
            {
              ...{ protocol: 'https', bindingInformation: '*:443:shop.example.com' },
              ...{ sslFlags: 33, thumbprint: A, store: 'WebHosting' },
            },
            { protocol: 'https', bindingInformation: '[2001:db8::1]:8443:', ...none },
            { protocol: 'net.tcp', bindingInformation: '808:*', ...none },
          ],
        },
      ],
    });
  });

  it('says what is known of a state, of a site with ftp alone too', async () => {
    const config = [
      siteXml({ id: 1, bindings: [http] }),
      siteXml({ id: 2, bindings: [http], autoStart: false }),
      siteXml({ id: 3, bindings: [http] }),
      siteXml({ id: 4, bindings: [ftp], ftp: { thumbprint: A.toLowerCase(), store: 'WebHosting' } }),
      siteXml({ id: 5, bindings: [ftp, http], autoStart: false }),
      siteXml({ id: 6, bindings: [ftp] }),
    ].join('');
    const machine = await machineWith({ config, siteState: { 3: 'error', 6: 'Stopped' } });
    const before = await machine.config();
    const { answer } = await session.run(machine, 'inspect', {});
    expect(answer?.sites).toMatchObject([
      { id: 1, state: 'Started', ftp: null },
      { id: 2, state: 'Stopped', ftp: null },
      { id: 3, state: 'Unknown', ftp: null },
      { id: 4, state: 'Started', ftp: { thumbprint: A, store: 'WebHosting' } },
      { id: 5, state: 'Stopped', ftp: { thumbprint: null, store: null } },
      { id: 6, state: 'Stopped', ftp: { thumbprint: null, store: null } },
    ]);
    expect(await machine.config()).toBe(before);
  });

  it('ends a process of its own with 1 when it refuses', async () => {
    const machine = await machineWith({ config: shop, env: { FAKE_IIS_CONFIG: '' } });
    expect(await runScript(machine, 'inspect', {})).toMatchObject({ exit: 1, stderr: '', answer: { ok: false } });
  });

  it('reads a broken record of http.sys as no certificate', async () => {
    const httpSys = { 'shop.example.com:443': { Hash: '', Store: 'My', Flags: 33 } };
    const { answer } = await session.run(await machineWith({ config: shop, httpSys }), 'inspect', {});
    expect(answer).toMatchObject({
      sites: [{ bindings: [{}, { thumbprint: null, store: null, sslFlags: 33 }, {}, {}] }],
    });
  });

  it('reads an IIS 7, which knows no sslFlags', async () => {
    const machine = await machineWith({
      ...{ config: siteXml({ id: 1, bindings: [{ bindingInformation: '*:443:' }] }), env: { FAKE_IIS_MAJOR: '7' } },
      httpSys: { '0.0.0.0:443': { Hash: A, Store: 'My', Flags: 0 } },
    });
    const { answer } = await session.run(machine, 'inspect', {});
    expect(answer).toMatchObject({ iis: { major: 7 }, sites: [{ bindings: [{ sslFlags: 0, thumbprint: A }] }] });
  });

  it('reads a host without sites', async () => {
    const { answer } = await session.run(await machineWith({ config: ' ' }), 'inspect', {});
    expect(answer).toMatchObject({ ok: true, sites: [] });
  });

  const absent = { ok: false, error: { precondition: false, hresult: '0x80040154' } };
  const absentTo = (answer: unknown): void =>
    expect(answer).toMatchObject({
      ...{ ok: true, iis: null, iisError: expect.stringContaining('0x80040154'), user: 'HOST\\Administrator' },
    });

  it('answers 0x80040154 where the library of IIS is missing', async () => {
    const machine = await machineWith({ config: shop, env: { FAKE_MWA: 'none' } });
    // A process that has not loaded the library for another machine.
    const fresh = await openScriptSession();
    const { exit, answer } = await fresh.run(machine, 'inspect', {});
    expect({ exit, answer }).toMatchObject({ exit: 1, answer: absent });
    absentTo((await fresh.run(machine, 'test-host', {})).answer);
    await fresh.close();
  });

  it('answers 0x80040154 where the configuration system of IIS is missing', async () => {
    const machine = await machineWith({ config: shop, env: { FAKE_IIS_CONFIG: '' } });
    const { exit, answer } = await session.run(machine, 'inspect', {});
    expect({ exit, answer }).toMatchObject({ exit: 1, answer: absent });
    absentTo((await session.run(machine, 'test-host', {})).answer);
  });

  it('tells who it runs as, what the host is, and which stores can be written', async () => {
    const machine = await machineWith({ config: shop, env: { FAKE_USER: 'guest', FAKE_IIS_MAJOR: '8' } });
    await rm(join(machine.dir, '.dotnet/corefx/cryptography/x509stores/webhosting'), { recursive: true });
    const { answer } = await session.run(machine, 'test-host', {});
    expect(answer).toMatchObject({
      ...{ user: 'HOST\\guest', admin: false, osBuild: 20348, iis: { major: 8, minor: 0 }, iisError: null },
      stores: [
        { name: 'My', ok: true },
        { name: 'WebHosting', ok: false, detail: expect.stringMatching(/./) },
        { name: 'CA', ok: true },
      ],
    });
    expect((await session.run(await machineWith({ config: shop }), 'test-host', {})).answer).toMatchObject({
      ...{ admin: true, stores: [{ ok: true }, { ok: true }, { ok: true }] },
    });
  });
});
