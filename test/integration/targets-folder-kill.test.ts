import { type ChildProcess, spawn } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, realpath, rm, watch } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { folderSettingsSchema } from '#libs/model/target-kinds';
import { createFolderTarget } from '#libs/targets/folder';
import { deployable, inContext } from '../support/deployable.ts';

const deployer = fileURLToPath(new URL('../support/folder-deployer.ts', import.meta.url));
const kills = 30;
const pfxPassword = 'password';

/** Processes that deploy without a pause are killed at any line, while readers look all the time. */
describe('a folder whose deployer is killed', () => {
  const certificates = [deployable('www.example.com'), deployable('www.example.com'), deployable('www.example.com')];
  const keys = certificates.map(({ privateKeyPem }) => privateKeyPem);
  let path: string;
  let own: string;
  let deployments = 0;
  /** How long a deployment takes here, in ms. */
  let pace = 50;
  const children = new Set<ChildProcess>();

  /** A deployer that is ready to begin. */
  function start(argument: string) {
    const child = spawn(process.execPath, [deployer, argument], { stdio: ['pipe', 'pipe', 'inherit'] });
    children.add(child);
    const exit = once(child, 'exit');
    const lines = createInterface({ input: child.stdout });
    const ready = once(lines, 'line');
    let last = 0;
    return {
      async begin(): Promise<void> {
        await ready;
        last = performance.now();
        lines.on('line', () => {
          deployments += 1;
          pace = performance.now() - last;
          last = performance.now();
        });
        child.stdin.write('go\n');
      },
      deployed: () => once(lines, 'line'),
      async kill(): Promise<void> {
        child.kill('SIGKILL');
        await exit;
        children.delete(child);
      },
    };
  }

  beforeAll(async () => {
    path = await mkdtemp(join(tmpdir(), 'certline-kill-'));
    own = join(path, '.certline', 'www.example.com');
  });
  afterAll(async () => {
    for (const child of children) child.kill('SIGKILL');
    await rm(path, { recursive: true, force: true });
  });

  /** Resolves when the folder of a new version is made: its files are written then. */
  async function aVersionBegins(): Promise<void> {
    for await (const { filename } of watch(own)) if (filename?.startsWith('version-')) return;
  }

  const settings = { kind: 'folder', pfx: { credential: 'crd_1' }, command: { file: '/bin/true' } };
  /** Enters the folder once, as a server does, and reads both files there. */
  async function read(): Promise<{ match: boolean; known: boolean }> {
    const folder = await realpath(join(path, 'www.example.com'));
    const key = await readFile(join(folder, 'privkey.pem'), 'utf8');
    const leaf = new X509Certificate(await readFile(join(folder, 'fullchain.pem')));
    return { match: leaf.checkPrivateKey(createPrivateKey(key)), known: keys.includes(key) };
  }

  it(`shows a key and its certificate to every reader, over ${kills} kills, and ends with the right ones`, async () => {
    const argument = JSON.stringify({ settings: { ...settings, path }, certificates, pfxPassword });
    const seen = { reads: 0, wrong: 0 };
    let reading = true;
    const readAll = async (): Promise<void> => {
      for (; reading; seen.reads += 1) {
        const { match, known } = await read();
        if (!match || !known) seen.wrong += 1;
        await delay(1);
      }
    };
    let readers: Promise<void> | undefined;
    let next = start(argument);
    for (let kill = 0; kill < kills; kill += 1) {
      const current = next;
      next = start(argument);
      if (kill % 2 === 0) {
        await current.begin();
        // There is something to read after the first deployment.
        await current.deployed();
        readers ??= Promise.all([readAll(), readAll()]).then(() => {});
        await delay(Math.random() * 2 * pace); // where it is killed is to be left to chance
      } else {
        const writing = aVersionBegins();
        await current.begin();
        await writing;
        await delay(Math.random() * 4);
      }
      await current.kill();
      expect(await read()).toEqual({ match: true, known: true });
    }
    reading = false;
    await readers;
    await next.kill();
    expect(seen.wrong).toBe(0);
    expect(seen.reads).toBeGreaterThan(100);
    expect(deployments).toBeGreaterThanOrEqual(kills / 2);

    // Kills that met a deployment in the middle left a version without all of its files, which nothing leads to.
    const versions = (await readdir(own)).filter((name) => name.startsWith('version-'));
    const sizes = await Promise.all(versions.map(async (name) => (await readdir(join(own, name))).length));
    expect(sizes.filter((files) => files < 5).length).toBeGreaterThan(0);

    const clock = { ...systemClock, now: () => systemClock.now() + 2 * 3_600_000 };
    const target = createFolderTarget(folderSettingsSchema.parse({ ...settings, path }), {
      ...{ clock, pfxPassword, allowCommands: true },
    });
    for (const certificate of certificates) {
      await target.deploy(certificate, inContext());
      expect(await target.check(certificate, new AbortController().signal)).toMatchObject({ state: 'same' });
    }
    // The versions of this hour are left, whole, and nothing else of the dead.
    const left = (await readdir(own)).filter((name) => !name.startsWith('command.'));
    expect(left.length).toBeLessThanOrEqual(certificates.length + 1);
    for (const name of left) expect(await readdir(join(own, name))).toHaveLength(5);
  }, 120_000);
});
