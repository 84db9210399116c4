import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPfx } from '#libs/crypto/pfx';
import { generatePrivateKey } from '#libs/crypto/private-key';
import { createRootCa } from '../../services/lab/certificate-authority.ts';
import { siteXml } from '../support/iis-config.ts';
import { type OpensslPfx, opensslPfx } from '../support/openssl-pfx.ts';
import {
  createMachine,
  type Machine,
  type MachineOptions,
  openScriptSession,
  runScript,
  type ScriptRun,
  type ScriptSession,
  withoutPowerShell,
} from '../support/powershell.ts';

const run = promisify(execFile);
const sha1 = (pem: string): string => new X509Certificate(pem).fingerprint.replaceAll(':', '');

/** A PFX of openssl's with an intermediate certificate and the root; ours leaves the root out. */
async function chainedPfx(dir: string): Promise<OpensslPfx & { intermediate: string }> {
  const root = createRootCa();
  const intermediate = root.intermediate('Test Intermediate');
  const key = await generatePrivateKey('ec-p256');
  const leaf = intermediate.issue({ key, names: ['chained.example.com'] });
  const file = join(dir, 'chained.pem');
  await writeFile(file, key + leaf + intermediate.certificatePem + root.certificatePem);
  const password = 'chained';
  const words = ['pkcs12', '-export', '-in', file, '-passout', `pass:${password}`, '-out', `${file}.pfx`];
  await run('openssl', words);
  const pfx = await readFile(`${file}.pfx`);
  return { pfx, password, thumbprint: sha1(leaf), intermediate: sha1(intermediate.certificatePem) };
}

describe.skipIf(withoutPowerShell)('the certificates of a host', () => {
  const machines: Machine[] = [];
  let session: ScriptSession;
  let dir: string;
  let ec: OpensslPfx;

  beforeAll(async () => {
    session = await openScriptSession();
    dir = await mkdtemp(join(tmpdir(), 'pfx-'));
    ec = await opensslPfx(dir, ['shop.example.com']);
  });
  afterAll(async () => {
    await session?.close();
    if (dir) await rm(dir, { recursive: true, force: true });
    await Promise.all(machines.map((machine) => machine.close()));
  });

  async function machineWith(options: MachineOptions = { config: ' ' }): Promise<Machine> {
    const machine = await createMachine(options);
    machines.push(machine);
    return machine;
  }
  const importPfx = (machine: Machine, { pfx, password, thumbprint }: OpensslPfx, over = {}): Promise<ScriptRun> =>
    session.run(machine, 'import-pfx', {
      ...{ pfx: pfx.toString('base64'), password, thumbprint, storeName: 'WebHosting' },
      ...{ friendlyName: 'münchen', exportable: false, readers: [], ...over },
    });
  const keyFiles = (machine: Machine): Promise<string[]> =>
    readdir(join(machine.dir, 'ProgramData/Microsoft/Crypto/Keys'));
  /** The file of a key is there from when it is first asked for. */
  const withKeyFile = { readers: ['S-1-5-20'] };
  /** What icacls was asked, line by line. */
  const granted = async (machine: Machine): Promise<string[]> =>
    (await readFile(join(machine.dir, 'icacls.log'), 'utf8').catch(() => '')).split('\n').filter(Boolean);

  describe('import-pfx', () => {
    it.each([
      ['aes', 'ec'],
      ['aes', 'rsa'],
      ['3des', 'rsa'],
    ] as const)('stores a certificate with its key out of a PFX in the form %s with an %s key', async (form, key) => {
      const pfx = await opensslPfx(dir, ['a.example.com', 'b.example.com'], { form, key });
      const machine = await machineWith();
      const { exit, answer } = await importPfx(machine, pfx);
      expect({ exit, answer }).toMatchObject({ exit: 0, answer: { ok: true, alreadyPresent: false } });
      expect(await machine.store('WebHosting')).toEqual([pfx.thumbprint]);
      expect(await machine.store('My')).toEqual([]);
    });

    it.each(['aes-256', '3des'] as const)('reads the PFX that certline makes in the form %s', async (form) => {
      const intermediate = createRootCa().intermediate('Test Intermediate');
      const privateKeyPem = await generatePrivateKey('rsa-2048');
      const leaf = intermediate.issue({ key: privateKeyPem, names: ['www.example.com'] });
      const password = 'Pässwörd 𝄞 & "quotes"';
      const chainPem = leaf + intermediate.chainPem;
      const pfx = await createPfx({ privateKeyPem, chainPem, password, friendlyName: 'Größe', form });
      const machine = await machineWith();
      expect((await importPfx(machine, { pfx, password, thumbprint: sha1(leaf) })).answer).toMatchObject({ ok: true });
      expect(await machine.store('WebHosting')).toEqual([sha1(leaf)]);
      expect(await machine.store('CA')).toEqual([sha1(intermediate.certificatePem)]);
    });

    it('notes that a friendly name was not set, and goes on', async () => {
      const { answer } = await importPfx(await machineWith(), ec);
      expect(answer).toMatchObject({ ok: true, notes: [expect.stringContaining('friendly name')] });
      expect((await importPfx(await machineWith(), ec, { friendlyName: '' })).answer).toMatchObject({ notes: [] });
    });

    it('does not import again what is there with its key', async () => {
      const machine = await machineWith();
      await importPfx(machine, ec);
      // Not even read: the PFX is another one.
      const { answer } = await importPfx(machine, { ...ec, pfx: Buffer.from('no PFX') });
      expect(answer).toMatchObject({ ok: true, alreadyPresent: true, notes: [] });
    });

    it('imports what is there without its key', async () => {
      const machine = await machineWith();
      const pem = await readFile(join(dir, 'shop.example.com-aes-ec.pem'), 'utf8');
      const store = join(machine.dir, '.dotnet/corefx/cryptography/x509stores/webhosting', `${ec.thumbprint}.pfx`);
      // The store of .NET on Linux takes whatever is a certificate.
      await writeFile(store, pem, { mode: 0o600 });
      expect((await importPfx(machine, ec)).answer).toMatchObject({ ok: true, alreadyPresent: false });
      expect((await importPfx(machine, ec)).answer).toMatchObject({ ok: true, alreadyPresent: true });
    });

    it('stores the intermediate certificates, never a root', async () => {
      const chained = await chainedPfx(dir);
      const machine = await machineWith();
      expect((await importPfx(machine, chained)).answer).toMatchObject({ ok: true });
      expect(await machine.store('WebHosting')).toEqual([chained.thumbprint]);
      expect(await machine.store('CA')).toEqual([chained.intermediate]);
    });

    it('notes that intermediate certificates were not stored, and goes on', async () => {
      const machine = await machineWith();
      await rm(join(machine.dir, '.dotnet/corefx/cryptography/x509stores/ca'), { recursive: true });
      const { answer } = await importPfx(machine, await chainedPfx(dir), { friendlyName: '' });
      expect(answer).toMatchObject({ ok: true, notes: [expect.stringContaining('intermediate')] });
    });

    it.each([
      ['a wrong password', { password: 'wrong' }, { hresult: '0x80070056' }],
      ['no PFX', { pfx: Buffer.from('no PFX').toString('base64') }, { type: /Exception$/ }],
      ['another certificate than it was told', { thumbprint: 'C'.repeat(40) }, { message: /does not hold/ }],
      ['a store that is not there', { storeName: 'Webhosting2' }, { type: /CryptographicException$/ }],
    ])('refuses %s and stores nothing', async (_, over, error) => {
      const machine = await machineWith();
      const { exit, answer } = await importPfx(machine, ec, over);
      const matching = Object.fromEntries(
        Object.entries(error).map(([name, value]) => [name, expect.stringMatching(value)]),
      );
      expect({ exit, answer }).toMatchObject({
        exit: 1,
        answer: { ok: false, error: { precondition: false, ...matching } },
      });
      expect([await machine.store('WebHosting'), await machine.store('CA')]).toEqual([[], []]);
      expect(await readdir(join(machine.dir, '.dotnet/corefx/cryptography/x509stores'))).toHaveLength(3);
    });

    it('keeps the password and the key off the answer', async () => {
      const { stdout, stderr } = await importPfx(await machineWith(), ec, { password: 'hunter2-wrong' });
      expect(stdout + stderr).not.toContain('hunter2-wrong');
      expect(stdout + stderr).not.toContain(ec.pfx.toString('base64').slice(0, 40));
    });

    it('lets accounts and SIDs read the key, of a certificate that was there already too', async () => {
      const machine = await machineWith();
      await importPfx(machine, ec);
      const readers = ['S-1-5-20', 'IIS AppPool\\Shöp', 'HOST\\svc-$a;b&c'];
      const { exit, answer } = await importPfx(machine, ec, { readers });
      expect({ exit, answer }).toMatchObject({ exit: 0, answer: { ok: true, alreadyPresent: true } });
      const [file] = await keyFiles(machine);
      const path = join(machine.dir, 'ProgramData/Microsoft/Crypto/Keys', file ?? '');
      expect(await granted(machine)).toEqual([
        `${path} /grant *S-1-5-20:R`,
        `${path} /grant IIS AppPool\\Shöp:R`,
        `${path} /grant HOST\\svc-$a;b&c:R`,
      ]);
    });

    it.each([
      ['an account that icacls does not know', {}, ['nobody'], /icacls says no such account/],
      ['a key whose file is not found', { ProgramData: '' }, ['S-1-5-20'], /were not set/],
      ['what is no account', {}, ['x" /grant "Everyone:F'], /is no account/],
    ])('refuses readers of the key for %s', async (_, env, readers, message) => {
      const machine = await machineWith({ config: ' ', env });
      await writeFile(
        join(machine.bin, 'icacls.exe'),
        `#!/bin/sh\necho "$*" >> '${machine.dir}/icacls.log'\necho 'no such account' >&2\nexit 76\n`,
      );
      const { exit, answer } = await importPfx(machine, ec, { readers });
      expect({ exit, answer }).toMatchObject({
        ...{ exit: 1, answer: { ok: false, error: { message: expect.stringMatching(message) } } },
      });
      expect((await granted(machine)).join()).not.toContain('Everyone');
    });

    it('ends with 0 although it has started another program', async () => {
      const { pfx, password, thumbprint } = ec;
      const request = { pfx: pfx.toString('base64'), password, thumbprint, storeName: 'My', readers: ['S-1-5-20'] };
      expect(await runScript(await machineWith(), 'import-pfx', request)).toMatchObject({ exit: 0, stderr: '' });
    });
  });

  describe('remove-certificate', () => {
    const remove = (machine: Machine, storeName = 'WebHosting', thumbprint = ec.thumbprint): Promise<ScriptRun> =>
      session.run(machine, 'remove-certificate', { thumbprint: thumbprint.toLowerCase(), storeName });
    const withCertificate = async (options: MachineOptions): Promise<Machine> => {
      const machine = await machineWith(options);
      await importPfx(machine, ec, withKeyFile);
      return machine;
    };

    it('takes the certificate and its key away, and says so when there is none', async () => {
      const machine = await withCertificate({ config: ' ' });
      const other = await opensslPfx(dir, ['other.example.com']);
      await importPfx(machine, other, withKeyFile);
      expect(await keyFiles(machine)).toHaveLength(2);
      expect((await remove(machine)).answer).toEqual({ ok: true, result: 'removed', usedBy: [] });
      expect(await machine.store('WebHosting')).toEqual([other.thumbprint]);
      expect(await keyFiles(machine)).toHaveLength(1);
      expect((await remove(machine)).answer).toEqual({ ok: true, result: 'absent', usedBy: [] });
    });

    const https = { bindingInformation: '*:443:shop.example.com', sslFlags: 1 };
    const ftpSite = siteXml({
      ...{ id: 4, bindings: [{ protocol: 'ftp', bindingInformation: '*:21:' }] },
      ftp: { thumbprint: 'HASH', store: 'MY' },
    });
    const ssl = '<ftpServer><security><ssl serverCertHash="HASH" /></security></ftpServer>';
    it.each([
      [
        'a binding',
        siteXml({ id: 2, bindings: [https] }),
        ['shop.example.com:443'],
        ['https *:443:shop.example.com of site 2', 'http.sys shop.example.com:443'],
      ],
      [
        'a binding of a stopped site',
        siteXml({ id: 3, bindings: [{ bindingInformation: '*:8443:' }], autoStart: false }),
        ['0.0.0.0:8443'],
        ['https *:8443: of site 3', 'http.sys 0.0.0.0:8443'],
      ],
      ['an ftp site', ftpSite, [], ['ftp of site 4']],
      ['the defaults of ftp sites', `<siteDefaults>${ssl}</siteDefaults>`, [], ['ftp of the site defaults']],
      [
        'another program, in http.sys',
        ' ',
        ['[::]:5986', '0.0.0.0:5986'],
        ['http.sys [::]:5986', 'http.sys 0.0.0.0:5986'],
      ],
    ])('leaves what %s uses', async (_, config, keys, usedBy) => {
      const httpSys = Object.fromEntries(keys.map((key) => [key, { Hash: ec.thumbprint, Store: 'My', Flags: 0 }]));
      const machine = await withCertificate({ config: config.replace('HASH', ec.thumbprint.toLowerCase()), httpSys });
      expect((await remove(machine)).answer).toEqual({ ok: true, result: 'in use', usedBy });
      expect(await machine.store('WebHosting')).toEqual([ec.thumbprint]);
      expect(await keyFiles(machine)).toHaveLength(1);
    });

    it('reads the table of http.sys in any language', async () => {
      const machine = await withCertificate({ config: ' ' });
      const german = `    IP:Port                      : 0.0.0.0:443\\r\\n    Zertifikathash               : ${ec.thumbprint.toLowerCase()}\\r\\n`;
      await writeFile(join(machine.bin, 'netsh.exe'), `#!/bin/sh\nprintf '${german}'\n`);
      expect((await remove(machine)).answer).toMatchObject({ result: 'in use', usedBy: ['http.sys 0.0.0.0:443'] });
    });

    it('leaves it when the table of http.sys cannot be read', async () => {
      const machine = await withCertificate({ config: ' ' });
      await writeFile(join(machine.bin, 'netsh.exe'), '#!/bin/sh\necho denied\nexit 1\n');
      expect((await remove(machine)).answer).toMatchObject({
        ...{ result: 'in use', usedBy: [expect.stringContaining('denied')] },
      });
      await rm(join(machine.bin, 'netsh.exe'));
      expect((await remove(machine)).answer).toMatchObject({ ok: false });
      expect(await machine.store('WebHosting')).toEqual([ec.thumbprint]);
    });

    it('refuses what is no thumbprint', async () => {
      const machine = await withCertificate({ config: ' ' });
      expect((await remove(machine, 'WebHosting', '')).answer).toMatchObject({ ok: false });
      expect((await remove(machine, 'Nowhere')).answer).toMatchObject({ ok: false });
      expect(await machine.store('WebHosting')).toEqual([ec.thumbprint]);
    });
  });
});
