import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '#libs/clock';
import { folderSettingsSchema } from '#libs/model/target-kinds';
import { createFolderTarget } from '#libs/targets/folder';
import { deployable, inContext } from '../support/deployable.ts';

let path: string;
let log: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'certline-command-'));
  log = join(path, 'ran');
});
afterEach(() => rm(path, { recursive: true, force: true }));

/** A program that notes what it was given, and then does what `body` says. */
async function program(body = ''): Promise<string> {
  const file = join(path, 'after deployment');
  await writeFile(
    file,
    `#!/bin/sh\nfor one in "$@"; do printf '%s\\n' "$one" >> '${log}'; done\necho ran >> '${log}'\n${body}\n`,
  );
  await chmod(file, 0o700);
  return file;
}
const target = (command: object, allowCommands = true) =>
  createFolderTarget(folderSettingsSchema.parse({ kind: 'folder', path, command }), {
    ...{ clock: systemClock, pfxPassword: null, allowCommands },
  });
const ran = async (): Promise<string> => readFile(log, 'utf8').catch(() => '');
const times = async (): Promise<number> => (await ran()).split('\n').filter((line) => line === 'ran').length;

describe('the command of a folder', () => {
  it('gets its arguments as they are, after the files are there, and runs once for a certificate', async () => {
    const certificate = deployable('www.example.com', 'example.com');
    const odd = ['a b', '$(touch pwned)', '; echo x', '"', "'", '%PATH%', '*'];
    const file = await program(`cat privkey.pem > '${path}/seen'`);
    const folder = target({ file, arguments: odd });
    const first = await folder.deploy(certificate, inContext());
    expect(first).toMatchObject({ changed: true, detail: expect.stringContaining('the command has succeeded') });
    expect(await ran()).toBe(`${[...odd, 'ran'].join('\n')}\n`);
    expect(await readFile(join(path, 'seen'), 'utf8')).toBe(certificate.privateKeyPem);
    expect(await folder.deploy(certificate, inContext())).toMatchObject({ changed: false });
    expect(await times()).toBe(1);
    await folder.deploy(deployable('www.example.com'), inContext());
    expect(await times()).toBe(2);
  });

  it('is told of the deployment, and nothing of the environment of the worker', async () => {
    const certificate = deployable('www.example.com', 'example.com');
    process.env.CERTLINE_TEST_SECRET = 'a secret of the worker';
    try {
      await target({ file: await program(`env > '${path}/environment'`) }).deploy(certificate, inContext());
    } finally {
      delete process.env.CERTLINE_TEST_SECRET;
    }
    const environment = await readFile(join(path, 'environment'), 'utf8');
    expect(environment).toContain(`CERTLINE_FOLDER=${path}/www.example.com\n`);
    expect(environment).toContain('CERTLINE_NAMES=www.example.com example.com\n');
    expect(environment).toContain(`CERTLINE_THUMBPRINT=${certificate.thumbprint}\n`);
    expect(environment).not.toContain('secret');
  });

  it('runs again until it has succeeded, and says why it did not', async () => {
    const certificate = deployable('www.example.com');
    const file = await program(
      `echo out of order >&2; head -c 5000 /dev/zero | tr '\\0' x; echo; echo the end; exit 3`,
    );
    const failing = target({ file });
    for (const attempt of [1, 2]) {
      const error: Error = await failing.deploy(certificate, inContext()).then(
        () => new Error('it succeeded'),
        (thrown) => thrown,
      );
      expect(error).toMatchObject({ code: 'target_refused', plan: { kind: 'retryable' } });
      expect(error.message).toMatch(/ended with 3 and said: x+\nthe end$/);
      expect(error.message.length).toBeLessThan(1_200);
      expect(await times()).toBe(attempt);
    }
    await program();
    expect(await failing.deploy(certificate, inContext())).toMatchObject({ changed: true });
    expect(await failing.deploy(certificate, inContext())).toMatchObject({ changed: false });
    expect(await times()).toBe(3);
  });

  it('runs again when the files had to be mended', async () => {
    const certificate = deployable('www.example.com');
    const folder = target({ file: await program() });
    await folder.deploy(certificate, inContext());
    await writeFile(join(path, 'www.example.com', 'cert.pem'), 'x');
    await folder.deploy(certificate, inContext());
    expect(await times()).toBe(2);
  });

  it('is ended with all it started when it takes too long', async () => {
    const file = await program(`sh -c 'sleep 60; echo late >> "${log}"' & echo $! > '${path}/child'; wait`);
    const slow = target({ file, timeoutSeconds: 1 });
    const failing = slow.deploy(deployable('www.example.com'), inContext());
    await expect(failing).rejects.toMatchObject({ code: 'target_timeout' });
    const child = Number(await readFile(join(path, 'child'), 'utf8'));
    // A killed process may be there as a zombie for a moment, until its parent asks for it.
    await expect
      .poll(() =>
        readFile(`/proc/${child}/stat`, 'utf8').then(
          (text) => / Z /.test(text),
          () => true,
        ),
      )
      .toBe(true);
  });

  it('is ended when the worker stops, and runs again', async () => {
    const certificate = deployable('www.example.com');
    const slow = target({ file: await program('sleep 60') });
    const stop = new AbortController();
    const deploying = slow.deploy(certificate, inContext('ord_1.1', stop.signal));
    const stopped = expect(deploying).rejects.toThrow('stopping');
    await expect.poll(times).toBe(1);
    stop.abort(new Error('stopping'));
    await stopped;
    await program();
    expect(await slow.deploy(certificate, inContext())).toMatchObject({ changed: true });
  });

  it('may leave a server behind that goes on writing', async () => {
    const file = await program(
      `(while [ ! -e '${path}/stop' ]; do echo up; sleep 0.05; done; echo down > '${path}/served') &`,
    );
    expect(await target({ file }).deploy(deployable('www.example.com'), inContext())).toMatchObject({ changed: true });
    await writeFile(join(path, 'stop'), '');
    await expect.poll(() => readFile(join(path, 'served'), 'utf8').catch(() => '')).toBe('down\n');
  });

  it('that does not start says so', async () => {
    const failing = target({ file: '/no/such/program' }).deploy(deployable('www.example.com'), inContext());
    await expect(failing).rejects.toMatchObject({
      ...{ code: 'target_refused', message: expect.stringContaining('does not start') },
    });
  });

  it('keeps anything from being changed on a worker that may not run commands', async () => {
    const folder = target({ file: await program() }, false);
    const certificate = deployable('www.example.com');
    await expect(folder.deploy(certificate, inContext())).rejects.toMatchObject({ code: 'target_refused' });
    expect(await times()).toBe(0);
    expect(await readFile(join(path, 'www.example.com', 'cert.pem'), 'utf8').catch(() => null)).toBeNull();
  });
});
