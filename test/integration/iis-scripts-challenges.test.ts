import { lstat, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { XMLValidator } from 'fast-xml-parser';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { siteXml } from '../support/iis-config.ts';
import {
  createMachine,
  type Machine,
  openScriptSession,
  type ScriptRun,
  type ScriptSession,
  withoutPowerShell,
} from '../support/powershell.ts';

const token = 'evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA';
const keyAuthorization = `${token}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI`;
const challenge = { token, keyAuthorization };

describe.skipIf(withoutPowerShell)('http-01 on a host', () => {
  let machine: Machine;
  let session: ScriptSession;

  beforeAll(async () => {
    session = await openScriptSession();
    const site = siteXml({ id: 5, physicalPath: '%WEB_ROOT%', bindings: [] });
    machine = await createMachine({ config: site });
  });
  afterAll(async () => {
    await session?.close();
    await machine?.close();
  });

  describe('as a file of a site', () => {
    /** The root of a site, with files of its own. */
    async function siteRoot(): Promise<string> {
      const root = await mkdtemp(join(machine.dir, 'root-'));
      await writeFile(join(root, 'web.config'), '<configuration />');
      await writeFile(join(root, 'index.html'), 'hello');
      return root;
    }
    const write = (root: string, over: object = {}): Promise<ScriptRun> =>
      session.run(machine, 'write-challenge', { path: root, ...challenge, webConfig: 'none', ...over });
    const remove = (root: string, over: object = {}): Promise<ScriptRun> =>
      session.run(machine, 'remove-challenge', { path: root, token, ...over });
    const folderOf = (root: string): string => join(root, '.well-known', 'acme-challenge');
    const filesBelow = async (root: string): Promise<string[]> =>
      (await readdir(root, { recursive: true })).map((name) => name.replaceAll('\\', '/')).sort();

    it('writes what the CA asks for, and leaves nothing behind', async () => {
      const root = await siteRoot();
      const before = await filesBelow(root);
      const { exit, answer } = await write(root);
      const file = join(folderOf(root), token);
      expect({ exit, answer }).toEqual({ exit: 0, answer: { ok: true, file, webConfig: 'none' } });
      expect(await readFile(file, 'utf8')).toBe(keyAuthorization);
      expect(await readdir(folderOf(root))).toEqual([token]);
      expect((await remove(root)).answer).toEqual({ ok: true, removed: true });
      expect(await filesBelow(root)).toEqual(before);
      expect((await remove(root)).answer).toEqual({ ok: true, removed: false });
    });

    it('finds the root of a site by its id', async () => {
      const root = await siteRoot();
      const env = { WEB_ROOT: root };
      const request = { siteId: 5, ...challenge, webConfig: 'mime' };
      expect((await session.run(machine, 'write-challenge', request, env)).answer).toMatchObject({
        webConfig: 'written',
      });
      expect(await readdir(folderOf(root))).toEqual([token, 'web.config']);
      expect((await session.run(machine, 'remove-challenge', request, env)).answer).toMatchObject({ removed: true });
      expect(await readdir(root)).not.toContain('.well-known');
      const { answer } = await session.run(machine, 'write-challenge', { ...request, siteId: 6 }, env);
      expect(answer).toMatchObject({ ok: false, error: { message: 'there is no site 6' } });
    });

    it.each([
      ['mime', ['"."'], ['".*"', '<handlers>', '<clear']],
      ['mime-handlers', ['"."', '<handlers><clear'], ['".*"']],
      ['any', ['".*"'], ['"."', '<handlers>', '<clear']],
      ['any-handlers', ['".*"', '<handlers><clear'], ['"."']],
      ['full', ['"."', '".*"', '<httpRedirect enabled="false"', '<authorization>'], ['<handlers>']],
    ])(
      'makes IIS serve it with a web.config of the kind %s, and deletes that with the last challenge',
      async (webConfig, has, hasNot) => {
        const root = await siteRoot();
        expect((await write(root, { webConfig })).answer).toMatchObject({ ok: true, webConfig: 'written' });
        const text = await readFile(join(folderOf(root), 'web.config'), 'utf8');
        expect(XMLValidator.validate(text)).toBe(true);
        for (const part of has) expect(text).toContain(part);
        for (const part of hasNot) expect(text).not.toContain(part);

        const second = { token: 'second', keyAuthorization: 'second.x' };
        // The next one to try replaces it.
        const other = webConfig === 'mime' ? 'any' : 'mime';
        expect((await write(root, { ...second, webConfig: other })).answer).toMatchObject({ webConfig: 'written' });
        expect(await readFile(join(folderOf(root), 'web.config'), 'utf8')).not.toBe(text);
        await remove(root);
        expect(await readdir(folderOf(root))).toEqual(['second', 'web.config']);
        await remove(root, second);
        expect(await readdir(root)).not.toContain('.well-known');
      },
    );

    it('keeps the web.config and the files that the site has there', async () => {
      const root = await siteRoot();
      const folder = folderOf(root);
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'web.config'), '<configuration><!-- theirs --></configuration>');
      await writeFile(join(folder, 'configcheck'), 'theirs');
      await writeFile(join(root, '.well-known', 'security.txt'), 'theirs');
      const before = await filesBelow(root);
      expect((await write(root, { webConfig: 'full' })).answer).toMatchObject({ ok: true, webConfig: 'kept' });
      expect(await filesBelow(root)).toHaveLength(before.length + 1);
      expect((await remove(root)).answer).toMatchObject({ removed: true });
      expect(await filesBelow(root)).toEqual(before);
      expect(await readFile(join(folder, 'web.config'), 'utf8')).toContain('theirs');
    });

    it('keeps a folder that still has something in it, and takes its own web.config out', async () => {
      const root = await siteRoot();
      await mkdir(folderOf(root), { recursive: true });
      await writeFile(join(folderOf(root), 'configcheck'), 'theirs');
      await write(root, { webConfig: 'mime' });
      await remove(root);
      expect(await readdir(folderOf(root))).toEqual(['configcheck']);
    });

    it('keeps a folder that is a link to another place', async () => {
      const root = await siteRoot();
      const place = await mkdtemp(join(machine.dir, 'place-'));
      await mkdir(join(root, '.well-known'));
      await symlink(place, folderOf(root));
      await write(root);
      expect(await readdir(place)).toEqual([token]);
      await remove(root);
      expect((await lstat(folderOf(root))).isSymbolicLink()).toBe(true);
      expect(await readdir(place)).toEqual([]);
    });

    it('writes the same challenge twice, and never over another file', async () => {
      const root = await siteRoot();
      await write(root);
      expect((await write(root)).answer).toMatchObject({ ok: true });
      const file = join(folderOf(root), 'theirs');
      await writeFile(file, 'hands off');
      const { exit, answer } = await write(root, { token: 'theirs', keyAuthorization: 'theirs.x' });
      expect({ exit, answer }).toMatchObject({ exit: 1, answer: { ok: false } });
      expect((await remove(root, { token: 'theirs' })).answer).toMatchObject({ removed: false });
      expect(await readFile(file, 'utf8')).toBe('hands off');
    });

    it.each([
      ['../../index.html', {}],
      ['web.config', {}],
      ['', {}],
      [token, { webConfig: 'other' }],
      [token, { path: 'relative' }],
      [token, { path: '/not/there' }],
    ])('refuses the token %j with %j', async (name, over) => {
      const root = await siteRoot();
      const before = await filesBelow(root);
      expect(await write(root, { token: name, ...over })).toMatchObject({ exit: 1, answer: { ok: false } });
      if (!('webConfig' in over)) {
        expect(await remove(root, { token: name, ...over })).toMatchObject({ exit: 1, answer: { ok: false } });
      }
      expect(await filesBelow(root)).toEqual(before);
    });
  });
});
