import { once } from 'node:events';
import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { IisHost } from '#libs/iis/iis-host';
import { createPowerShellHost } from '#libs/iis/powershell-host';
import { createLocalRunner } from '#libs/iis/transports/local';
import { createSshRunner } from '#libs/iis/transports/ssh';
import { freePort } from '../../services/lab/running-program.ts';
import { type SharedHttpPort, startSharedHttpPort } from '../../services/lab/shared-http-port.ts';
import { startSshd } from '../../services/lab/sshd.ts';
import { answering, createFailingPowerShell, isAlive } from '../support/failing-powershell.ts';
import { eventually } from '../support/lab-session.ts';
import { createMachine, type Machine, withoutPowerShell } from '../support/powershell.ts';

const folder = '/.well-known/acme-challenge';
const withCode = (code: string, more: object = {}) => expect.objectContaining({ code, ...more });
const enough = new Error('enough');

async function get(port: number, path: string): Promise<[number, string]> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } });
  return [response.status, response.status === 200 ? await response.text() : ''];
}

/** A listener of a host, once it listens, and how it came to its end. */
async function listen(host: IisHost, port: number, tokens: string[], seconds = 120) {
  const stop = new AbortController();
  const listening = Promise.withResolvers<readonly string[]>();
  const answers = Object.fromEntries(tokens.map((token) => [token, `${token}.print`]));
  const end = host.listenForChallenges({ port, seconds, answers }, listening.resolve, stop.signal);
  const ended = end.then(
    () => null,
    (error: unknown) => error,
  );
  const taken = await Promise.race([listening.promise, end.then(() => listening.promise)]);
  return {
    taken,
    ended,
    async stop() {
      stop.abort(enough);
      return ended;
    },
  };
}

// Each listener is a process of its own, of a second or, on a busy machine, of several.
describe.skipIf(withoutPowerShell)('a listener for challenges on a host', { timeout: 120_000 }, () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'listeners-'));
    // Builds the host of PowerShell, where that was not done yet.
    await (await createMachine({ config: '' })).close();
  }, 300_000);
  afterAll(() => rm(dir, { recursive: true }));

  describe('beside the sites', () => {
    let web: SharedHttpPort;
    let machine: Machine;
    let host: IisHost;
    beforeEach(async () => {
      const root = await mkdtemp(join(dir, 'root-'));
      await mkdir(join(root, folder), { recursive: true });
      await writeFile(join(root, folder, 'theirs'), 'of another program');
      await writeFile(join(root, folder, 'web.config'), '<mimeMap fileExtension="." mimeType="text/plain" />');
      web = await startSharedHttpPort({ dir: await mkdtemp(join(dir, 'web-')), root });
      machine = await createMachine({ config: '', env: web.env });
      host = createPowerShellHost(createLocalRunner(join(machine.bin, 'powershell.exe')), '127.0.0.1');
    });
    afterEach(async () => {
      await web.close();
      await machine.close();
    });

    /** Nobody but listeners for these tokens takes a path of the port, as soon as processes that were ended have gone. */
    const registered = (...tokens: string[]): Promise<boolean> =>
      eventually(`the prefixes are those of ${tokens}`, 10_000, async () =>
        isDeepStrictEqual(
          await web.registered(),
          tokens.map((token) => `http://+:${web.port}${folder}/${token}/`),
        ),
      );

    it('gives its answers as often as they are asked for, takes no other path, and leaves nothing when it ends', async () => {
      const { taken, stop } = await listen(host, web.port, ['Token_1', 'token-2']);
      expect(taken).toEqual([]);
      for (const token of ['Token_1', 'token-2', 'Token_1'])
        expect(await get(web.port, `${folder}/${token}`)).toEqual([200, `${token}.print`]);
      for (const path of ['/token_1', '/Token_1/', '/Token_1/more', '/Token_', '/'])
        expect(await get(web.port, folder + path)).toEqual([404, '']);
      expect(await get(web.port, `${folder}/theirs`)).toEqual([200, 'of another program']);
      expect(await stop()).toBe(enough);
      await registered();
      expect(await get(web.port, `${folder}/Token_1`)).toEqual([404, '']);
    });

    it('does not mind that of another order', async () => {
      const one = await listen(host, web.port, ['one']);
      const other = await listen(host, web.port, ['other']);
      expect([one.taken, other.taken]).toEqual([[], []]);
      for (const token of ['one', 'other'])
        expect(await get(web.port, `${folder}/${token}`)).toEqual([200, `${token}.print`]);
      await one.stop();
      await registered('other');
      expect(await get(web.port, `${folder}/one`)).toEqual([404, '']);
      expect(await get(web.port, `${folder}/other`)).toEqual([200, 'other.print']);
      await other.stop();
    });

    it('leaves to an earlier one what that answers, and ends when nothing is left', async () => {
      const earlier = await listen(host, web.port, ['a', 'b']);
      const more = await listen(host, web.port, ['a', 'c']);
      expect(more.taken).toEqual(['a']);
      expect(await get(web.port, `${folder}/c`)).toEqual([200, 'c.print']);
      const same = await listen(host, web.port, ['a', 'b']);
      expect(same.taken).toEqual(['a', 'b']);
      expect(await same.ended).toBeNull();
      expect(await get(web.port, `${folder}/a`)).toEqual([200, 'a.print']);
      await Promise.all([earlier.stop(), more.stop()]);
    });

    it('ends when its time is over', async () => {
      const { ended } = await listen(host, web.port, ['a'], 1);
      expect(await ended).toBeNull();
      await registered();
    });
  });

  it('is refused where the port belongs to somebody who does not share it', async () => {
    const machine = await createMachine({ config: '' });
    const server = createServer().listen(0);
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    const host = createPowerShellHost(createLocalRunner(join(machine.bin, 'powershell.exe')), '127.0.0.1');
    await expect(listen(host, port, ['a'])).rejects.toEqual(
      withCode('target_refused', { message: expect.stringContaining('Address already in use') }),
    );
    server.close();
    await machine.close();

    const failing = await createFailingPowerShell(dir);
    const shared = {
      type: 'System.Net.HttpListenerException',
      hresult: '0x80070020',
      message: 'used by another process',
    };
    await failing.does(answering({ ok: false, error: { precondition: false, ...shared } }));
    const windows = createPowerShellHost(createLocalRunner(failing.program), '127.0.0.1');
    await expect(listen(windows, 80, ['a'])).rejects.toEqual(
      withCode('target_refused', { message: 'port 80 belongs to a program on the host that is not IIS' }),
    );
  });

  it('is refused with a token that is none', async () => {
    const machine = await createMachine({ config: '' });
    const host = createPowerShellHost(createLocalRunner(join(machine.bin, 'powershell.exe')), '127.0.0.1');
    await expect(listen(host, await freePort(), ['../..'])).rejects.toEqual(withCode('target_refused'));
    await machine.close();
  });

  describe('over ssh', () => {
    async function openSshHost() {
      const own = await mkdtemp(join(dir, 'ssh-'));
      const machine = await createMachine({ config: '' });
      const bin = join(own, 'bin');
      const pids = join(own, 'pids');
      await mkdir(bin);
      await appendFile(pids, '');
      const real = join(machine.bin, 'powershell.exe');
      await writeFile(join(bin, 'powershell.exe'), `#!/bin/sh\necho $$ >> '${pids}'\nexec '${real}' "$@"\n`);
      await chmod(join(bin, 'powershell.exe'), 0o755);
      const sshd = await startSshd({ dir: join(own, 'sshd'), path: [bin] });
      const runner = createSshRunner({
        ...{ host: sshd.host, port: sshd.port, hostKey: sshd.hostKey },
        openCredential: async () => ({ username: sshd.username, secret: { privateKey: sshd.privateKey } }),
        pinHostKey: async () => {},
      });
      const port = await freePort();
      return {
        ...{ sshd, port, host: createPowerShellHost(runner, sshd.host) },
        /** Nothing of it is left: the process has ended, and the port is free. */
        async isGone() {
          const [pid = 0] = (await readFile(pids, 'utf8')).split('\n').map(Number);
          expect(pid).toBeGreaterThan(0);
          await eventually('the process has ended', 10_000, async () => !isAlive(pid));
          const server = createServer().listen(port);
          await once(server, 'listening');
          server.close();
        },
        async close() {
          await runner.close();
          await sshd.close();
          await machine.close();
        },
      };
    }

    it('ends on the host when it is no longer wanted', async () => {
      const { host, port, isGone, close } = await openSshHost();
      const { stop } = await listen(host, port, ['a']);
      expect(await get(port, `${folder}/a`)).toEqual([200, 'a.print']);
      expect(await stop()).toBe(enough);
      await isGone();
      await close();
    });

    it('ends on the host when the connection is lost, and says so', async () => {
      const { host, port, sshd, isGone, close } = await openSshHost();
      const { ended } = await listen(host, port, ['a']);
      await sshd.signalConnections('SIGKILL');
      expect(await ended).toEqual(withCode('target_unreachable'));
      await isGone();
      await close();
    });
  });
});
