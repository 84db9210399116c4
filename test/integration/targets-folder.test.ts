import { execFile } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync } from 'node:fs';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  realpath,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { folderSettingsSchema } from '#libs/model/target-kinds';
import { createFolderTarget, type FolderDeps } from '#libs/targets/folder';
import { readPfx } from '#libs/targets/pfx-contents';
import { deployable, inContext } from '../support/deployable.ts';

const run = promisify(execFile);
const pfxPassword = 'pass wörd';
const hour = 3_600_000;
const laterClock = (ms: number) => ({ ...systemClock, now: () => systemClock.now() + ms });
const signal = new AbortController().signal;

let path: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'certline-folder-'));
});
afterEach(() => rm(path, { recursive: true, force: true }));

const target = (settings: object = {}, deps: Partial<FolderDeps> = {}) =>
  createFolderTarget(folderSettingsSchema.parse({ kind: 'folder', path, ...settings }), {
    ...{ clock: systemClock, pfxPassword, allowCommands: true, ...deps },
  });
const withPfx = { pfx: { credential: 'crd_1' } };
const live = (name = 'www.example.com'): string => join(path, name);
const own = (name = 'www.example.com'): string => join(path, '.certline', name);
const textOf = (file: string, name?: string): Promise<string> => readFile(join(live(name), file), 'utf8');
const modeOf = async (file: string): Promise<number> => (await stat(join(live(), file))).mode & 0o777;
/** Changes with whatever is done to a file but reading it. */
const identityOf = async (file: string): Promise<number[]> => {
  const { ino, ctimeMs } = await lstat(file);
  return [ino, ctimeMs];
};
const versions = async (): Promise<string[]> => (await readdir(own())).filter((name) => name.startsWith('version-'));
const matching = async (folder: string): Promise<boolean> => {
  const leaf = new X509Certificate(await readFile(join(folder, 'fullchain.pem')));
  return leaf.checkPrivateKey(createPrivateKey(await readFile(join(folder, 'privkey.pem'))));
};

describe.each(['links', 'files'] as const)('a folder whose files are swapped by %s', (swap) => {
  it('gets the files of the certificate, as openssl reads them, for the eyes of their owner', async () => {
    const certificate = deployable('www.example.com', 'example.com');
    const deployed = await target(withPfx, { swap }).deploy(certificate, inContext());
    expect(deployed).toEqual({ changed: true, detail: `written to ${live()}` });
    expect((await readdir(live())).sort()).toEqual(
      ['cert.pem', 'certificate.pfx', 'chain.pem', 'fullchain.pem', 'privkey.pem'].sort(),
    );
    expect(await textOf('privkey.pem')).toBe(certificate.privateKeyPem);
    expect(await textOf('fullchain.pem')).toBe(certificate.chainPem);
    expect((await textOf('cert.pem')) + (await textOf('chain.pem'))).toBe(certificate.chainPem);
    const shown = await run('openssl', ['x509', '-in', join(live(), 'cert.pem'), '-noout', '-fingerprint']);
    expect(shown.stdout.replaceAll(':', '')).toContain(certificate.thumbprint);
    const pfx = await readFile(join(live(), 'certificate.pfx'));
    expect(readPfx(pfx, pfxPassword)).toEqual({
      ...{ readable: true, thumbprint: certificate.thumbprint, form: 'aes-256' },
    });
    expect(await Promise.all(['.', 'privkey.pem', 'certificate.pfx'].map(modeOf))).toEqual([0o700, 0o600, 0o600]);
  });

  it('is left alone when it has the certificate already, and replaced when it has the one before', async () => {
    const [first, second] = [deployable('www.example.com'), deployable('www.example.com')];
    const folder = target(withPfx, { swap });
    await folder.deploy(first, inContext());
    const before = await identityOf(join(live(), 'privkey.pem'));
    expect(await folder.deploy(first, inContext())).toMatchObject({ changed: false });
    expect(await identityOf(join(live(), 'privkey.pem'))).toEqual(before);
    expect(await folder.check(second, signal)).toMatchObject({ state: 'different' });
    expect(await folder.deploy(second, inContext())).toMatchObject({ changed: true });
    expect(await folder.check(second, signal)).toEqual({ state: 'same', differences: [] });
    expect(await textOf('privkey.pem')).toBe(second.privateKeyPem);
  });

  it('keeps the certificates of others apart, a wildcard under _', async () => {
    const [one, two] = [deployable('www.example.com'), deployable('*.example.com', 'example.com')];
    for (const certificate of [one, two]) await target({}, { swap }).deploy(certificate, inContext());
    expect(await textOf('cert.pem')).not.toBe(await textOf('cert.pem', '_.example.com'));
    for (const certificate of [one, two])
      expect(await target({}, { swap }).check(certificate, signal)).toMatchObject({ state: 'same' });
  });

  it.each([
    ['a missing file', (file: string) => rm(file), 'chain.pem', 'chain.pem is missing'],
    ['a changed file', (file: string) => writeFile(file, 'x'), 'fullchain.pem', 'fullchain.pem is not that of'],
    [
      'a key of another',
      (file: string) => writeFile(file, deployable('a.example.com').privateKeyPem),
      'privkey.pem',
      'privkey.pem is not the key of',
    ],
    ['a broken PFX', (file: string) => writeFile(file, 'x'), 'certificate.pfx', 'certificate.pfx cannot be read'],
    [
      'a key that others may read',
      (file: string) => chmod(file, 0o644),
      'privkey.pem',
      'privkey.pem is open to others (644)',
    ],
    [
      'a folder that others may enter',
      (file: string) => chmod(join(file, '..'), 0o755),
      'cert.pem',
      'the folder is open to others (755)',
    ],
  ])('tells of %s and mends it', async (_what, spoil, file, difference) => {
    const certificate = deployable('www.example.com');
    const folder = target(withPfx, { swap });
    await folder.deploy(certificate, inContext());
    await spoil(join(await realpath(live()), file));
    const { state, differences } = await folder.check(certificate, signal);
    expect({ state, count: differences.length }).toEqual({ state: 'different', count: 1 });
    expect(differences[0]).toContain(difference);
    expect(await folder.deploy(certificate, inContext())).toMatchObject({ changed: true });
    expect(await folder.check(certificate, signal)).toEqual({ state: 'same', differences: [] });
  });

  it('is not touched for a certificate whose key or chain is of another, or whose name leads out of it', async () => {
    const [good, other] = [deployable('www.example.com'), deployable('www.example.com')];
    const folder = target({}, { swap });
    for (const [bad, code] of [
      [{ ...good, privateKeyPem: other.privateKeyPem }, 'certificate_mismatch'],
      [{ ...good, chainPem: other.chainPem }, 'certificate_mismatch'],
      [{ ...good, chainPem: '' }, 'chain_invalid'],
      [{ ...good, names: ['../www.example.com'] }, 'name_invalid'],
      [{ ...good, names: [] }, 'name_invalid'],
    ] as const)
      await expect(folder.deploy(bad, inContext())).rejects.toMatchObject({ code });
    expect(await readdir(path)).toEqual([]);
  });

  it('must be there, and is not made', async () => {
    const certificate = deployable('www.example.com');
    const gone = target({ path: join(path, 'not mounted') }, { swap });
    await expect(gone.deploy(certificate, inContext())).rejects.toMatchObject({
      ...{ code: 'target_unreachable', plan: { kind: 'retryable' } },
      message: expect.stringMatching(/not mounted is not there on the machine of this worker: make it, or mount it/),
    });
    await expect(gone.check(certificate, signal)).rejects.toMatchObject({ code: 'target_unreachable' });
    expect(await readdir(path)).toEqual([]);
    await writeFile(join(path, 'file'), '');
    const file = target({ path: join(path, 'file') }, { swap });
    await expect(file.deploy(certificate, inContext())).rejects.toMatchObject({ code: 'target_refused' });
    const other = target({ path: 'C:\\certificates' }, { swap });
    await expect(other.deploy(certificate, inContext())).rejects.toMatchObject({ code: 'target_refused' });
  });

  it('is tested step by step, and left as it was', async () => {
    const command = { file: process.execPath };
    const steps = await target({ command }, { swap }).test(signal);
    expect(steps.map(({ step, ok }) => [step, ok])).toEqual([
      ...[
        ['folder', true],
        ['write', true],
        ['links', true],
        ['command', true],
      ],
    ]);
    expect(await readdir(path)).toEqual([]);
    const gone = await target({ path: join(path, 'no') }, { swap }).test(signal);
    expect(gone.map(({ step, ok }) => [step, ok])).toEqual([['folder', false]]);
    const unable = await target({ command: { file: '/no/such/program' } }, { swap }).test(signal);
    expect(unable.at(-1)).toMatchObject({ step: 'command', ok: false });
    const forbidden = await target({ command }, { swap, allowCommands: false }).test(signal);
    expect(forbidden.at(-1)).toMatchObject({ step: 'command', ok: false });
  });
});

describe('a folder with links', () => {
  it.each([
    ['a folder', () => mkdir(live()).then(() => writeFile(join(live(), 'privkey.pem'), 'theirs'))],
    ['a file', () => writeFile(live(), 'theirs')],
    ['a link', () => symlink('/etc', live())],
    ['a link into our own folder that leads out of it', () => symlink('.certline/www.example.com/../../..', live())],
  ])('does not replace %s that is not its own', async (_what, make) => {
    await make();
    const before = await identityOf(live());
    const certificate = deployable('www.example.com');
    await expect(target().deploy(certificate, inContext())).rejects.toMatchObject({ code: 'target_refused' });
    expect(await identityOf(live())).toEqual(before);
    expect(await readdir(path)).toEqual(['www.example.com']);
  });

  it('lets a reader that is in it finish: the version before goes an hour later', async () => {
    const [first, second, third] = [
      deployable('www.example.com'),
      deployable('www.example.com'),
      deployable('www.example.com'),
    ];
    await target().deploy(first, inContext());
    const reader = await realpath(live());
    await utimes(reader, 0, 0); // it was there for long
    await target().deploy(second, inContext());
    expect(await readFile(join(reader, 'privkey.pem'), 'utf8')).toBe(first.privateKeyPem);
    expect(await versions()).toHaveLength(2);
    await target({}, { clock: laterClock(2 * hour) }).deploy(second, inContext());
    expect(existsSync(reader)).toBe(false);
    expect(await versions()).toHaveLength(1);
    await target().deploy(third, inContext());
    expect(await target().check(third, signal)).toMatchObject({ state: 'same' });
  });

  it('can be moved with all that is in it', async () => {
    await target().deploy(deployable('www.example.com'), inContext());
    expect(await readlink(live())).toMatch(/^\.certline\/www\.example\.com\/version-/);
  });

  it('is deployed to again when somebody removed its versions', async () => {
    const certificate = deployable('www.example.com');
    await target().deploy(certificate, inContext());
    await rm(join(path, '.certline'), { recursive: true });
    expect(await target().check(certificate, signal)).toMatchObject({ differences: [`${live()} is missing`] });
    expect(await target().deploy(certificate, inContext())).toMatchObject({ changed: true });
    expect(await target().check(certificate, signal)).toMatchObject({ state: 'same' });
  });

  it('has nothing of a deployment that is stopped before the link', async () => {
    const [first, second] = [deployable('www.example.com'), deployable('www.example.com')];
    await target().deploy(first, inContext());
    const before = await versions();
    const stop = AbortSignal.abort(new Error('stopping'));
    await expect(target().deploy(second, inContext('ord_1.1', stop))).rejects.toThrow('stopping');
    expect(await target().check(first, signal)).toMatchObject({ state: 'same' });
    expect(await versions()).toEqual(before);
  });
});

describe('a folder without links', () => {
  const files = { swap: 'files' } as const;

  it('gets the key last: while one of the others cannot be replaced, the key stays', async () => {
    const [first, second] = [deployable('www.example.com'), deployable('www.example.com')];
    await target({}, files).deploy(first, inContext());
    await rm(join(live(), 'fullchain.pem'));
    await mkdir(join(live(), 'fullchain.pem'));
    await expect(target({}, files).deploy(second, inContext())).rejects.toMatchObject({ code: 'target_refused' });
    expect(await textOf('privkey.pem')).toBe(first.privateKeyPem);
    expect((await readdir(live())).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('is mended by the next run when the machine died between certificate and key', async () => {
    const [first, second] = [deployable('www.example.com'), deployable('www.example.com')];
    await target({}, files).deploy(second, inContext());
    await writeFile(join(live(), 'privkey.pem'), first.privateKeyPem);
    await writeFile(join(live(), '.certline-0123456789abcdef.tmp'), second.privateKeyPem);
    expect(await matching(live())).toBe(false);
    await target({}, { ...files, clock: laterClock(2 * hour) }).deploy(second, inContext());
    expect(await matching(live())).toBe(true);
    expect((await readdir(live())).filter((name) => name.startsWith('.'))).toEqual([]);
  });
});
