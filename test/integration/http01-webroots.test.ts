import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createWebroots, type Webroots } from '#libs/challenges/webroots';

const token = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA';
const answer = `${token}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI`;
let dir: string;
let site: string;
let webroots: Webroots;

const write = (folder = site): Promise<void> => webroots.write(folder, token, answer);
const remove = (folder = site): Promise<void> => webroots.remove(folder, token);
const folder = (): string => join(site, '.well-known', 'acme-challenge');
const below = async (path: string): Promise<string[]> => (await readdir(path, { recursive: true })).sort();
const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'certline-webroot-'));
  site = join(dir, 'www', 'shop');
  await mkdir(site, { recursive: true });
  await mkdir(join(dir, 'private'));
  webroots = createWebroots([join(dir, 'www'), join(dir, 'is-not-there')]);
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('a folder of a web server', () => {
  it('has the answer where a CA asks for it, for everybody to read, until it is taken away', async () => {
    const before = process.umask(0o077);
    try {
      await write();
    } finally {
      process.umask(before);
    }
    expect(await readFile(join(folder(), token), 'utf8')).toBe(answer);
    const modes = [site, join(site, '.well-known'), folder(), join(folder(), token)].slice(1).map(modeOf);
    expect(await Promise.all(modes)).toEqual(['755', '755', '644']);
    await remove();
    expect(await below(site)).toEqual([]);
    await remove();
  });

  it('is looked at without a trace, and refused as for writing', async () => {
    await webroots.look(site);
    expect(await below(site)).toEqual([]);
    await expect(webroots.look(join(dir, 'private'))).rejects.toMatchObject({ code: 'webroot_not_allowed' });
    await expect(webroots.look(join(dir, 'www', 'gone'))).rejects.toMatchObject({ code: 'target_unreachable' });
  });

  it('may be given twice, and keeps the answers of others', async () => {
    await write();
    await write();
    await webroots.write(site, 'second', 'second.x');
    await remove();
    expect(await readFile(join(folder(), 'second'), 'utf8')).toBe('second.x');
    await webroots.remove(site, 'second');
    expect(await below(site)).toEqual([]);
  });

  it('keeps folders and files that certline has not made, empty ones too', async () => {
    await mkdir(folder(), { recursive: true });
    await chmod(folder(), 0o700);
    await write();
    await remove();
    expect(await below(site)).toEqual(['.well-known', '.well-known/acme-challenge']);
    expect(await modeOf(folder())).toBe('700');

    await writeFile(join(folder(), token), 'theirs');
    await writeFile(join(folder(), 'configcheck'), 'theirs');
    const before = await below(site);
    await remove();
    expect(await below(site)).toEqual(before);
  });

  it('keeps what came into a folder of ours meanwhile, and goes when that is gone', async () => {
    await write();
    await writeFile(join(site, '.well-known', 'security.txt'), 'theirs');
    await remove();
    expect(await readdir(join(site, '.well-known'))).toContain('security.txt');
    expect(await readdir(join(site, '.well-known'))).not.toContain('acme-challenge');
    await rm(join(site, '.well-known', 'security.txt'));
    await write();
    await remove();
    expect(await below(site)).toEqual([]);
  });

  it('is left clean by a worker that was killed while it wrote', async () => {
    await write();
    await rm(join(folder(), token));
    await writeFile(join(folder(), `${token}.tmp`), '');
    await remove();
    expect(await below(site)).toEqual([]);
    await write();
    await writeFile(join(folder(), `${token}.tmp`), answer.slice(0, 60));
    await write();
    await remove();
    expect(await below(site)).toEqual([]);
  });

  it('is written to by several at the same time', async () => {
    const tokens = Array.from({ length: 20 }, (_, n) => `token-${n % 10}`);
    await Promise.all(tokens.map((one) => webroots.write(site, one, `${one}.x`)));
    expect((await readdir(folder())).filter((name) => name.startsWith('token-'))).toHaveLength(10);
    await Promise.all(tokens.map((one) => webroots.remove(site, one)));
    expect(await below(site)).toEqual([]);
  });
});

describe('a folder that is not one of WEBROOTS', () => {
  const refused = { code: 'webroot_not_allowed', plan: { kind: 'permanent' } };

  it.each([
    ['beside it', () => join(dir, 'private')],
    ['above it', () => dir],
    ['with a name that begins like it', () => join(dir, 'www2')],
    ['by way of it', () => `${site}/../../private`],
    ['that is not there', () => join(dir, 'nowhere')],
    ['that is relative', () => 'www/shop'],
  ])('is refused: %s', async (_what, path) => {
    await mkdir(join(dir, 'www2'));
    await expect(write(path())).rejects.toMatchObject(refused);
    await expect(remove(path())).rejects.toMatchObject(refused);
    expect(await below(join(dir, 'private'))).toEqual([]);
    expect(await below(join(dir, 'www2'))).toEqual([]);
  });

  it('is refused when there are none at all', async () => {
    webroots = createWebroots([]);
    await expect(write()).rejects.toMatchObject(refused);
  });

  it('is not reached by a link, whichever of the folders it is', async () => {
    const elsewhere = join(dir, 'private');
    await symlink(elsewhere, join(dir, 'www', 'link'));
    await expect(write(join(dir, 'www', 'link'))).rejects.toMatchObject(refused);

    await symlink(elsewhere, join(site, '.well-known'));
    await expect(write()).rejects.toMatchObject(refused);
    expect(await below(elsewhere)).toEqual([]);

    await rm(join(site, '.well-known'));
    await mkdir(join(site, '.well-known'));
    await symlink(elsewhere, folder());
    await writeFile(join(elsewhere, token), answer);
    await expect(write()).rejects.toMatchObject(refused);
    await expect(remove()).rejects.toMatchObject(refused);
    expect(await below(elsewhere)).toEqual([token]);
  });

  it('is none of them when a link leads from there into one, or within it', async () => {
    await symlink(site, join(dir, 'private', 'in'));
    await write(join(dir, 'private', 'in'));
    expect(await readFile(join(folder(), token), 'utf8')).toBe(answer);
    await remove();
    const real = join(dir, 'www', 'challenges');
    await mkdir(real);
    await mkdir(join(site, '.well-known'));
    await symlink(real, folder());
    await write();
    expect(await readdir(real)).toEqual([token]);
    await remove();
    expect(await readdir(real)).toEqual([]);
  });

  it('is not mistaken for one that is away just now: a disk may come back', async () => {
    await rm(site, { recursive: true });
    const away = { code: 'target_unreachable', plan: { kind: 'retryable' } };
    await expect(write()).rejects.toMatchObject(away);
    await expect(remove()).rejects.toMatchObject(away);
  });
});
