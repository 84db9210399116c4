import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openIisHost } from '#libs/iis/hosts';
import type { BindingChange, IisHost, PfxImport } from '#libs/iis/iis-host';
import { createPowerShellHost } from '#libs/iis/powershell-host';
import { createSshRunner } from '#libs/iis/transports/ssh';
import { type Sshd, startSshd } from '../../services/lab/sshd.ts';
import { failureOf } from '../support/failing-powershell.ts';
import { eventually } from '../support/lab-session.ts';
import { type OpensslPfx, opensslPfx } from '../support/openssl-pfx.ts';
import { createMachine, type Machine, withoutPowerShell } from '../support/powershell.ts';

const { signal } = new AbortController();
const withCode = (code: string, more: object = {}) => expect.objectContaining({ code, ...more });
let scratch: string;
let dir: string;
let sshd: Sshd;
let machine: Machine;
let host: IisHost;
let certificate: OpensslPfx;

const place = '*:443:www.example.com';
const config = `<site name="München" id="1"><bindings><binding protocol="http" bindingInformation="*:80:www.example.com" /><binding protocol="https" bindingInformation="${place}" sslFlags="1" /></bindings></site>`;

const pfxOf = ({ pfx, password, thumbprint }: OpensslPfx, more: Partial<PfxImport> = {}): PfxImport => ({
  ...{ pfx, password, thumbprint, store: 'My', friendlyName: 'www "ü"', exportable: false, readers: [] },
  ...more,
});
const update = (more: Partial<BindingChange> = {}): BindingChange => ({
  op: 'update',
  siteId: 1,
  protocol: 'https',
  bindingInformation: place,
  sslFlags: 1,
  thumbprint: certificate.thumbprint,
  store: 'My',
  expect: { thumbprint: null, sslFlags: 1 },
  ...more,
});
const bound = async (): Promise<string | null | undefined> =>
  (await host.read(signal)).sites[0]?.bindings.find(({ bindingInformation }) => bindingInformation === place)
    ?.thumbprint;

/** Settings of the stand-in for IIS from now on. */
const set = (variables: Record<string, string>): Promise<void> =>
  writeFile(
    join(dir, 'settings'),
    Object.entries(variables)
      .map(([name, value]) => `export ${name}='${value}'\n`)
      .join(''),
  );
const processes = async (): Promise<number[]> =>
  (await readFile(join(dir, 'pids'), 'utf8')).split('\n').filter(Boolean).map(Number);

// Each script is a process of its own, of a second or, on a busy machine, of several.
describe.skipIf(withoutPowerShell)('a Windows host over ssh', { timeout: 120_000 }, () => {
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'ssh-iis-'));
    certificate = await opensslPfx(scratch, ['www.example.com']);
    // Builds the host of PowerShell, where that was not done yet.
    await (await createMachine({ config })).close();
  }, 300_000);
  afterAll(() => rm(scratch, { recursive: true }));

  beforeEach(async () => {
    dir = await mkdtemp(join(scratch, 'host-'));
    machine = await createMachine({ config });
    const bin = join(dir, 'bin');
    await mkdir(bin);
    await set({});
    await appendFile(join(dir, 'pids'), '');
    const real = join(machine.bin, 'powershell.exe');
    const wrapper = `#!/bin/sh\necho $$ >> '${join(dir, 'pids')}'\n. '${join(dir, 'settings')}'\nexec '${real}' "$@"\n`;
    await writeFile(join(bin, 'powershell.exe'), wrapper);
    await chmod(join(bin, 'powershell.exe'), 0o755);
    sshd = await startSshd({ dir: join(dir, 'sshd'), path: [bin] });
    const runner = createSshRunner({
      ...{ host: sshd.host, port: sshd.port, hostKey: sshd.hostKey },
      openCredential: async () => ({ username: sshd.username, secret: { privateKey: sshd.privateKey } }),
      pinHostKey: async () => {},
    });
    host = createPowerShellHost(runner, sshd.host, { commitDelayMs: 10 });
  });
  afterEach(async () => {
    await host.close?.();
    await sshd.close();
    await machine.close();
  });

  it('is opened from its target: its key is pinned, and its sites are read', async () => {
    const pinned: string[][] = [];
    const { host: name, port } = sshd;
    const opened = openIisHost(
      {
        ...{
          id: 'tgt_1',
          name: 'web',
          kind: 'iis',
          pool: 'default',
          createdAt: 0,
          windows: [],
          drift: 'report' as const,
        },
        transport: { kind: 'ssh', host: name, port, credential: 'cred_1', hostKey: null },
      },
      {
        openCredential: async (id) => {
          expect(id).toBe('cred_1');
          return { username: sshd.username, secret: { privateKey: sshd.privateKey } };
        },
        pinHostKey: async (...key) => {
          pinned.push(key);
        },
      },
    );
    const state = await opened.read(signal);
    await opened.close?.();
    expect(pinned).toEqual([['tgt_1', sshd.hostKey]]);
    expect(state).toMatchObject({ iisMajor: 10, sites: [{ id: 1, name: 'München', state: 'Started', ftp: null }] });
    expect(state.sites[0]?.bindings[1]).toEqual({
      ...{ protocol: 'https', bindingInformation: place, sslFlags: 1 },
      ...{ thumbprint: null, store: null },
    });
    expect([opened.endpoint('*', 443), opened.endpoint('[::1]', 8443)]).toEqual([
      { host: sshd.host, port: 443 },
      { host: '::1', port: 8443 },
    ]);
  });

  it('gets a certificate and a binding with it, each once, and keeps the certificate while it is in use', async () => {
    expect(await host.removeCertificate(certificate.thumbprint, 'My', signal)).toBe('absent');
    await host.importPfx(pfxOf(certificate), signal);
    await host.importPfx(pfxOf(certificate), signal);
    expect(await machine.store('My')).toEqual([certificate.thumbprint]);
    await host.apply([update()], signal);
    expect(await bound()).toBe(certificate.thumbprint);
    await host.apply([], signal);
    expect(await machine.commits()).toEqual({ tries: 1, commits: 1 });
    expect(await host.removeCertificate(certificate.thumbprint, 'My', signal)).toBe('in use');
    expect(await machine.store('My')).toEqual([certificate.thumbprint]);
  });

  it('says why it does not do what it is asked', async () => {
    const wrong = pfxOf(certificate, { password: 'correct horse battery' });
    const refused = await failureOf(host.importPfx(wrong, signal));
    expect(refused.code).toBe('pfx_unreadable');
    expect(JSON.stringify([refused, refused.message])).not.toContain('correct horse');
    await host.importPfx(pfxOf(certificate), signal);
    await expect(host.apply([update({ expect: null, op: 'add' })], signal)).rejects.toEqual(withCode('plan_drifted'));
    await set({ FAKE_IIS_FAIL_COMMITS: '99' });
    await expect(host.apply([update()], signal)).rejects.toEqual(withCode('commit_conflict'));
    expect(await machine.commits()).toEqual({ tries: 3, commits: 0 });
    await set({ FAKE_IIS_REFUSE: 'denied' });
    await expect(host.apply([update()], signal)).rejects.toEqual(withCode('access_denied'));
    await set({ FAKE_IIS_RECORD: 'AB'.repeat(20) });
    await expect(host.apply([update()], signal)).rejects.toEqual(
      withCode('target_refused', {
        message: `after the commit (update) ${place} of site 1 has the certificate ${'AB'.repeat(20)} and sslFlags 1`,
      }),
    );
  });

  it('that is lost after its commit shows what was done, and does not do it again', async () => {
    await host.importPfx(pfxOf(certificate), signal);
    await set({ FAKE_IIS_PAUSE: 'after:60000' });
    const applied = host.apply([update()], signal);
    await eventually('the commit is made', 60_000, async () => (await machine.commits()).commits === 1);
    await sshd.signalConnections('SIGKILL');
    await expect(applied).rejects.toEqual(withCode('target_unreachable'));
    process.kill((await processes()).at(-1) ?? 0, 'SIGKILL');
    await set({});
    expect(await bound()).toBe(certificate.thumbprint);
    await expect(host.apply([update()], signal)).rejects.toEqual(withCode('plan_drifted'));
    expect(await machine.commits()).toEqual({ tries: 1, commits: 1 });
  });

  it('that is lost before its commit is as it was, and takes the change the next time', async () => {
    await host.importPfx(pfxOf(certificate), signal);
    await set({ FAKE_IIS_PAUSE: 'before:60000' });
    const applied = host.apply([update()], signal);
    await eventually('it is about to commit', 60_000, async () => (await machine.commits()).tries === 1);
    await sshd.signalConnections('SIGKILL');
    await expect(applied).rejects.toEqual(withCode('target_unreachable'));
    process.kill((await processes()).at(-1) ?? 0, 'SIGKILL');
    await set({});
    expect(await bound()).toBe(null);
    await host.apply([update()], signal);
    expect(await bound()).toBe(certificate.thumbprint);
  });

  it('is tested step by step', async () => {
    expect(await host.test(signal)).toMatchObject([
      { step: 'connect', ok: true },
      { step: 'host key', ok: true, detail: `${sshd.hostKey}, as it was pinned` },
      { step: 'rights', ok: true },
      { step: 'iis', ok: true },
      { step: 'stores', ok: true },
    ]);
    await host.close?.();
    await sshd.start('new');
    expect(await host.test(signal)).toMatchObject([
      { step: 'connect', ok: true },
      { step: 'host key', ok: false, detail: expect.stringContaining(sshd.hostKey) },
    ]);
    await sshd.stop();
    expect(await host.test(signal)).toMatchObject([{ step: 'connect', ok: false }]);
  });
});
