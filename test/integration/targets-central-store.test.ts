import { execFile } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { centralStoreSettingsSchema } from '#libs/model/target-kinds';
import { createCentralStore } from '#libs/targets/central-store';
import { readPfx } from '#libs/targets/pfx-contents';
import { deployable, inContext } from '../support/deployable.ts';
import { opensslPfx } from '../support/openssl-pfx.ts';

const run = promisify(execFile);
const signal = new AbortController().signal;
const password = 'pässword "1"';

let path: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'certline-ccs-'));
});
afterEach(() => rm(path, { recursive: true, force: true }));

const store = (settings: object = {}, own = password) =>
  createCentralStore(centralStoreSettingsSchema.parse({ kind: 'ccs', path, credential: 'crd_1', ...settings }), {
    ...{ clock: systemClock, password: own },
  });
const files = async (): Promise<string[]> => (await readdir(path)).sort();
const thumbprintOf = async (file: string): Promise<string | null> => {
  const contents = readPfx(await readFile(join(path, file)), password);
  return contents.readable ? contents.thumbprint : null;
};

describe('a central certificate store', () => {
  it('gets a PFX per name where IIS looks for it, each with key and chain', async () => {
    const certificate = deployable('www.example.com', '*.example.com', 'xn--mnchen-3ya.example');
    expect(await store().deploy(certificate, inContext())).toMatchObject({ changed: true });
    expect(await files()).toEqual(['_.example.com.pfx', 'münchen.example.pfx', 'www.example.com.pfx'].sort());
    for (const file of await files()) {
      const read = ['pkcs12', '-in', join(path, file), '-passin', `pass:${password}`, '-nodes'];
      const { stdout } = await run('openssl', read);
      expect(stdout.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
      const leaf = new X509Certificate(stdout.slice(stdout.indexOf('-----BEGIN CERTIFICATE')));
      expect(leaf.fingerprint.replaceAll(':', '')).toBe(certificate.thumbprint);
      expect(leaf.checkPrivateKey(createPrivateKey(stdout.slice(stdout.indexOf('-----BEGIN PRIVATE'))))).toBe(true);
    }
  });

  it.each([
    ['aes-256', 'PBES2, PBKDF2, AES-256-CBC'],
    ['3des', 'pbeWithSHA1And3-KeyTripleDES-CBC'],
  ] as const)('gets the form %s when it is told so, also in place of the other', async (form, protection) => {
    const certificate = deployable('www.example.com');
    await store({ form: form === '3des' ? 'aes-256' : '3des' }).deploy(certificate, inContext());
    expect(await store({ form }).deploy(certificate, inContext())).toMatchObject({ changed: true });
    const read = ['pkcs12', '-in', join(path, 'www.example.com.pfx'), '-passin', `pass:${password}`, '-info', '-noout'];
    expect((await run('openssl', read)).stderr).toContain(protection);
    expect(await store({ form }).deploy(certificate, inContext())).toMatchObject({ changed: false });
  });

  it('is written only where it is not as it should be', async () => {
    const certificate = deployable('www.example.com', 'example.com');
    await store().deploy(certificate, inContext());
    const { ino } = await stat(join(path, 'www.example.com.pfx'));
    expect(await store().deploy(certificate, inContext())).toEqual({ changed: false, detail: 'all 2 files are there' });
    await rm(join(path, 'example.com.pfx'));
    expect(await store().check(certificate, signal)).toEqual({
      ...{ state: 'different', differences: ['example.com.pfx is missing'] },
    });
    expect(await store().deploy(certificate, inContext())).toEqual({
      ...{ changed: true, detail: '1 of 2 files written: example.com.pfx' },
    });
    expect((await stat(join(path, 'www.example.com.pfx'))).ino).toBe(ino);
    expect(await store().check(certificate, signal)).toEqual({ state: 'same', differences: [] });
  });

  it('tells what a file is instead: another certificate, another password, no PFX at all', async () => {
    const certificate = deployable('a.example.com', 'b.example.com', 'c.example.com');
    const other = deployable('a.example.com');
    await store().deploy(certificate, inContext());
    await store().deploy(other, inContext());
    await store({}, 'another').deploy(deployable('b.example.com'), inContext());
    await writeFile(join(path, 'c.example.com.pfx'), 'x');
    const { differences } = await store().check(certificate, signal);
    expect(differences).toEqual([
      `a.example.com.pfx holds ${other.thumbprint} instead of ${certificate.thumbprint}`,
      expect.stringMatching(/^b\.example\.com\.pfx cannot be read with the password: mac verify failure/),
      expect.stringMatching(/^c\.example\.com\.pfx cannot be read with the password: /),
    ]);
    await store().deploy(certificate, inContext());
    expect(await Promise.all((await files()).map(thumbprintOf))).toEqual(Array(3).fill(certificate.thumbprint));
  });

  it('loses nothing that others put there, and nothing of names that a newer certificate has no more', async () => {
    await writeFile(join(path, 'theirs.example.com.pfx'), 'theirs');
    await writeFile(join(path, 'notes.tmp'), 'theirs');
    await store().deploy(deployable('www.example.com', 'old.example.com'), inContext());
    const newer = deployable('www.example.com');
    await store().deploy(newer, inContext());
    expect(await files()).toEqual(
      ['notes.tmp', 'old.example.com.pfx', 'theirs.example.com.pfx', 'www.example.com.pfx'].sort(),
    );
    expect(await readFile(join(path, 'theirs.example.com.pfx'), 'utf8')).toBe('theirs');
    expect(await thumbprintOf('www.example.com.pfx')).toBe(newer.thumbprint);
  });

  it('is rid of what a dead run left behind, and not of what a living one is writing', async () => {
    const [dead, living] = ['.certline-00000000000000aa.tmp', '.certline-00000000000000bb.tmp'];
    for (const name of [dead, living]) await writeFile(join(path, name), 'half a PFX');
    const long = systemClock.now() / 1000 - 2 * 3600;
    await utimes(join(path, dead), long, long);
    await store().deploy(deployable('www.example.com'), inContext());
    expect(await files()).toEqual([living, 'www.example.com.pfx']);
  });

  it('is not touched for names that lead out of it, or that no file can have', async () => {
    const folder = join(path, 'store');
    await mkdir(folder);
    for (const [name, code] of [
      ['../www.example.com', 'name_invalid'],
      ['a/../../www.example.com', 'name_invalid'],
      ['..\\www.example.com', 'name_invalid'],
      ['nul.example.com', 'target_refused'],
    ] as const) {
      const certificate = { ...deployable('www.example.com'), names: ['www.example.com', name] };
      await expect(store({ path: folder }).deploy(certificate, inContext())).rejects.toMatchObject({ code });
    }
    expect([await files(), await readdir(folder)]).toEqual([['store'], []]);
  });

  it('keeps the files that were written when one cannot be, and the next run writes the rest', async () => {
    const certificate = deployable('a.example.com', 'b.example.com', 'c.example.com');
    await mkdir(join(path, 'b.example.com.pfx'));
    await expect(store().deploy(certificate, inContext())).rejects.toMatchObject({
      ...{ code: 'target_refused', message: expect.stringContaining('b.example.com.pfx') },
    });
    expect(await files()).toEqual(['a.example.com.pfx', 'b.example.com.pfx']);
    await rm(join(path, 'b.example.com.pfx'), { recursive: true });
    expect(await store().deploy(certificate, inContext())).toMatchObject({
      detail: '2 of 3 files written: b.example.com.pfx, c.example.com.pfx',
    });
  });

  it('is never written half: a reader sees the old file or the new one', async () => {
    const [one, two] = [deployable('www.example.com'), deployable('www.example.com')];
    await store().deploy(one, inContext());
    let writing = true;
    const seen = new Set<string | null>();
    const reader = (async () => {
      while (writing) seen.add(await thumbprintOf('www.example.com.pfx'));
    })();
    for (let times = 0; times < 20; times += 1) await store().deploy(times % 2 === 0 ? two : one, inContext());
    writing = false;
    await reader;
    expect([...seen].sort()).toEqual([one.thumbprint, two.thumbprint].sort());
  });

  it('must be there, and is not made', async () => {
    const gone = store({ path: join(path, 'not mounted') });
    const certificate = deployable('www.example.com');
    await expect(gone.deploy(certificate, inContext())).rejects.toMatchObject({ code: 'target_unreachable' });
    await expect(gone.check(certificate, signal)).rejects.toMatchObject({ code: 'target_unreachable' });
    const share = store({ path: '\\\\files01\\certs' });
    await expect(share.deploy(certificate, inContext())).rejects.toMatchObject({ code: 'target_refused' });
    expect(await files()).toEqual([]);
  });

  it('is tested step by step, down to whether the password is the one of the files that are there', async () => {
    const names = async (steps: Promise<{ step: string; ok: boolean }[]>) =>
      (await steps).map(({ step, ok }) => `${step} ${ok}`);
    expect(await names(store({ path: join(path, 'no') }).test(signal))).toEqual(['folder false']);
    const good = ['folder true', 'write true', 'password true'];
    expect(await names(store().test(signal))).toEqual(good);
    expect(await files()).toEqual([]);
    await store().deploy(deployable('www.example.com'), inContext());
    await writeFile(join(path, 'broken.pfx'), 'x'); // no matter of the password
    expect(await names(store().test(signal))).toEqual(good);
    const steps = await store({}, 'another').test(signal);
    expect(steps.at(-1)).toEqual({
      ...{ step: 'password', ok: false, detail: '1 of 2 files have another password: www.example.com.pfx' },
    });
  });

  it('reads the files of other tools', async () => {
    for (const [form, ours] of [
      ['aes', 'aes-256'],
      ['3des', '3des'],
    ] as const) {
      const { pfx, password: theirs, thumbprint } = await opensslPfx(path, ['www.example.com'], { form });
      expect(readPfx(pfx, theirs)).toEqual({ readable: true, thumbprint, form: ours });
      expect(readPfx(pfx, 'wrong')).toMatchObject({ readable: false, wrongPassword: true });
    }
  });
});
