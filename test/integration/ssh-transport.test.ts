import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CertlineError } from '#libs/errors';
import type { ScriptRunner } from '#libs/iis/script-runner';
import { createSshRunner } from '#libs/iis/transports/ssh';
import type { SshHost } from '#libs/iis/transports/ssh-connection';
import type { SshSecret } from '#libs/model/credential';
import { type Sshd, startSshd } from '../../services/lab/sshd.ts';
import {
  answering,
  createFailingPowerShell,
  type FailingPowerShell,
  failureOf,
} from '../support/failing-powershell.ts';
import { eventually } from '../support/lab-session.ts';

const { signal } = new AbortController();
const options = { signal, timeoutMs: 30_000 };
const withCode = (code: string, more: object = {}) => expect.objectContaining({ code, ...more });
let dir: string;
let powershell: FailingPowerShell;
let sshd: Sshd;
const opened: ScriptRunner[] = [];
/** What was pinned since the test began. */
let pinned: string[];

/** A runner for the server, which nobody has met yet. */
function runner(more: Partial<SshHost> = {}, secret: SshSecret = { privateKey: sshd.privateKey }): ScriptRunner {
  const made = createSshRunner({
    host: sshd.host,
    port: sshd.port,
    hostKey: null,
    openCredential: async () => ({ username: sshd.username, secret }),
    pinHostKey: async (fingerprint) => {
      pinned.push(fingerprint);
    },
    ...more,
  });
  opened.push(made);
  return made;
}

const passwordOf = ({ password }: Sshd): string => {
  if (password === null) throw new Error('this sshd lets nobody in by password: there is no nss_wrapper');
  return password;
};

/** The lines of the log since `mark` lines. */
const logSince = async (mark: number): Promise<string[]> => (await sshd.log()).split('\n').slice(mark);
const mark = async (): Promise<number> => (await sshd.log()).split('\n').length - 1;
/** What it says of credentials that it was shown. */
const logins = (lines: readonly string[]): string[] =>
  lines.filter((line) => /^(Accepted|Failed) (publickey|password)/.test(line));

/** Waits until that many scripts have been started on the host. */
const started = (count: number): Promise<boolean> =>
  eventually(`${count} scripts run`, 10_000, async () => (await powershell.runs()).length >= count);

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ssh-transport-'));
  powershell = await createFailingPowerShell(dir);
  sshd = await startSshd({ dir: join(dir, 'sshd'), path: [powershell.bin] });
});
beforeEach(async () => {
  pinned = [];
  await powershell.does(answering({ ok: true }));
});
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});
afterAll(async () => {
  await sshd.close();
  await powershell.close();
  await rm(dir, { recursive: true });
});

// First, so that nothing else is still on its way out.
it('nothing stays open, whatever became of a script', async () => {
  const held = (kind: string): number => process.getActiveResourcesInfo().filter((one) => one === kind).length;
  const before = { sockets: held('TCPSocketWrap'), timers: held('Timeout') };
  // More of each than comes and goes by itself.
  for (let times = 0; times < 4; times += 1) {
    await runner({}, { password: 'wrong' })
      .run('', {}, options)
      .catch(() => {});
    await powershell.does('exec sleep 600');
    await runner()
      .run('', {}, { signal, timeoutMs: 300 })
      .catch(() => {});
    const ended = runner();
    await powershell.does(answering({ ok: true }));
    await ended.run('', {}, options);
    await ended.close();
  }
  await eventually('sockets and timers are as they were', 5_000, async () => {
    return held('TCPSocketWrap') < before.sockets + 3 && held('Timeout') < before.timers + 3;
  });
});

describe('a login', () => {
  it('with a key or a password runs scripts, all over one connection', async () => {
    for (const secret of [{ privateKey: sshd.privateKey }, { password: passwordOf(sshd) }]) {
      const before = await mark();
      const host = runner({}, secret);
      for (const request of [
        { ok: true, a: 1 },
        { ok: true, b: 'ü' },
      ]) {
        await powershell.does('echo "$request"');
        expect(await host.run('', request, options)).toEqual(request);
      }
      const lines = await logSince(before);
      expect(logins(lines)).toHaveLength(1);
      expect(lines.filter((line) => line.startsWith('Starting session: command'))).toHaveLength(2);
    }
  });

  it('with a wrong key or password is refused, and tells neither', async () => {
    const other = await startSshd({ dir: join(dir, 'other') });
    await other.close();
    for (const secret of [{ privateKey: other.privateKey }, { password: 'correct horse battery' }]) {
      const error = await failureOf(runner({}, secret).run('', {}, options));
      expect(error).toMatchObject({
        code: 'ssh_login_refused',
        evidence: { host: sshd.host, username: sshd.username, hostKey: sshd.hostKey },
      });
      const shown = JSON.stringify([error, error.message, error.stack, String(error.cause)]);
      expect(shown).not.toMatch(/correct horse|BEGIN OPENSSH/);
    }
  });

  it('with a key that is none is refused before the host hears of it', async () => {
    const before = await mark();
    for (const privateKey of ['no key', sshd.privateKey.replace('AAAA', 'BBBB')]) {
      await expect(runner({}, { privateKey }).run('', {}, options)).rejects.toEqual(withCode('ssh_login_refused'));
    }
    expect((await logSince(before)).filter((line) => line.startsWith('Connection from'))).toEqual([]);
  });

  it('fails as its credential does', async () => {
    const unknown = new CertlineError('credential_unknown', 'there is no credential cred_1');
    const host = runner({ openCredential: () => Promise.reject(unknown) });
    await expect(host.run('', {}, options)).rejects.toBe(unknown);
  });
});

describe('the key of a host', () => {
  it('is pinned at the first connection, once, and shown', async () => {
    const host = runner();
    const place = `${sshd.host}:${sshd.port} as ${sshd.username}`;
    expect(await host.connect(signal)).toEqual({ place, hostKey: { fingerprint: sshd.hostKey, isNew: true } });
    await sshd.signalConnections('SIGKILL');
    await expect(host.run('', {}, options)).rejects.toEqual(withCode('target_unreachable'));
    expect(await host.connect(signal)).toEqual({ place, hostKey: { fingerprint: sshd.hostKey, isNew: false } });
    expect(pinned).toEqual([sshd.hostKey]);
  });

  it('is not pinned again where it is known, and may be any of the keys the host has', async () => {
    for (const hostKey of [sshd.hostKey, sshd.rsaHostKey]) {
      expect(await runner({ hostKey }).run('', {}, options)).toEqual({ ok: true });
    }
    expect(pinned).toEqual([]);
  });

  it('is pinned before anybody logs in, and nobody does when that fails', async () => {
    const lost = new CertlineError('host_key_changed', 'another one was pinned meanwhile');
    const before = await mark();
    await expect(runner({ pinHostKey: () => Promise.reject(lost) }).run('', {}, options)).rejects.toBe(lost);
    expect(logins(await logSince(before))).toEqual([]);
  });

  it('is refused when it has changed, with both fingerprints, and no credential is sent to it', async () => {
    const old = sshd.hostKey;
    const host = runner({ hostKey: old }, { password: passwordOf(sshd) });
    expect(await host.run('', {}, options)).toEqual({ ok: true });
    const runs = (await powershell.runs()).length;
    await host.close();
    await sshd.start('new');
    const before = await mark();
    await expect(host.run('', {}, options)).rejects.toEqual(
      withCode('host_key_changed', {
        evidence: { host: sshd.host, port: sshd.port, expected: old, seen: [sshd.hostKey, sshd.rsaHostKey] },
      }),
    );
    expect(logins(await logSince(before))).toEqual([]);
    expect(await powershell.runs()).toHaveLength(runs);
    expect(pinned).toEqual([]);
  });
});

describe('a host that does not answer', () => {
  it('because it is down is unreachable, and is found again when it is back', async () => {
    const host = runner();
    await sshd.stop();
    await expect(host.run('', {}, options)).rejects.toEqual(withCode('target_unreachable'));
    await expect(runner({ host: 'no-such-host.invalid' }).run('', {}, options)).rejects.toEqual(
      withCode('target_unreachable'),
    );
    await sshd.start();
    expect(await host.run('', {}, options)).toEqual({ ok: true });
  });

  it('or answers something else is unreachable, and is waited for no longer than allowed', async () => {
    for (const greeting of ['', 'HTTP/1.1 400 Bad Request\r\n\r\n']) {
      const server = createServer((socket) =>
        socket
          .on('error', () => {})
          .resume()
          .write(greeting),
      );
      await once(server.listen(0, '127.0.0.1'), 'listening');
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      await expect(runner({ port, connectMs: 300 }).run('', {}, options)).rejects.toEqual(
        withCode('target_unreachable'),
      );
      // Nothing of ours holds the connection open.
      server.close();
      await once(server, 'close');
    }
  });

  it('is given up when the caller gives up, with the caller’s reason', async () => {
    const server = createServer((socket) => socket.on('error', () => {}).resume());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const address = server.address();
    const gone = new AbortController();
    const reason = new Error('enough');
    const host = runner({ port: typeof address === 'object' && address !== null ? address.port : 0 });
    const run = host.run('', {}, { ...options, signal: gone.signal });
    await once(server, 'connection');
    gone.abort(reason);
    await expect(run).rejects.toBe(reason);
    await expect(host.run('', {}, { ...options, signal: gone.signal })).rejects.toBe(reason);
    server.close();
    await once(server, 'close');
  });
});

describe('a connection that is lost', () => {
  it('in the middle of an answer is no success; the script is not run again, and the next one connects anew', async () => {
    const host = runner();
    const runs = (await powershell.runs()).length;
    await powershell.does(`printf '{"ok":true}\\n{"ok":tr'; exec sleep 600`);
    const run = host.run('', {}, options);
    await started(runs + 1);
    await sshd.signalConnections('SIGKILL');
    await expect(run).rejects.toEqual(withCode('target_unreachable'));
    expect(await powershell.runs()).toHaveLength(runs + 1);
    await powershell.does(answering({ ok: true, again: true }));
    expect(await host.run('', {}, options)).toEqual({ ok: true, again: true });
    expect(await powershell.runs()).toHaveLength(runs + 2);
  });

  it('without a word is noticed', async () => {
    const host = runner({ keepAliveMs: 100 });
    const runs = (await powershell.runs()).length;
    await powershell.does('exec sleep 600');
    const run = host.run('', {}, options);
    await started(runs + 1);
    await sshd.signalConnections('SIGSTOP');
    await expect(run).rejects.toEqual(
      withCode('target_unreachable', { message: expect.stringContaining('Keepalive timeout') }),
    );
    await sshd.signalConnections('SIGKILL');
  });
});

it('a connection is given up at once, also when the host has gone silent', async () => {
  const host = runner();
  await powershell.does(answering({ ok: true }));
  await host.run('', {}, options);
  await sshd.signalConnections('SIGSTOP');
  await host.close();
  await sshd.signalConnections('SIGKILL');
});

describe('a script', () => {
  it('that hangs is given up when its time is up, with its connection', async () => {
    const host = runner();
    await host.connect(signal);
    await powershell.does('exec sleep 600');
    await expect(host.run('', {}, { signal, timeoutMs: 500 })).rejects.toEqual(
      withCode('target_timeout', { evidence: { host: `${sshd.host}:${sshd.port}`, timeoutMs: 500 } }),
    );
    await powershell.does(answering({ ok: true }));
    expect(await host.run('', {}, options)).toEqual({ ok: true });
  });

  it('that is aborted throws the reason as it is', async () => {
    const host = runner();
    const gone = new AbortController();
    const reason = new Error('enough');
    const runs = (await powershell.runs()).length;
    await powershell.does('exec sleep 600');
    const run = host.run('', {}, { ...options, signal: gone.signal });
    await started(runs + 1);
    gone.abort(reason);
    await expect(run).rejects.toBe(reason);
  });

  it('that gives no answer is shown with what the host said, unless the request was secret', async () => {
    const host = runner();
    await powershell.does(`echo "no JSON: $request"; echo 'bad luck' >&2; exit 3`);
    const request = { pfx: 'c2VjcmV0' };
    const place = `${sshd.host}:${sshd.port}`;
    await expect(host.run('', request, options)).rejects.toEqual(
      withCode('target_refused', {
        message: `PowerShell on ${place} ended with 3 and gave no answer`,
        evidence: { host: place, exitCode: 3, output: 'no JSON: {"pfx":"c2VjcmV0"}', errors: 'bad luck' },
      }),
    );
    const hidden = await failureOf(host.run('', request, { ...options, confidential: true }));
    expect(hidden).toMatchObject({ code: 'target_refused', evidence: { host: place, exitCode: 3 } });
    expect(JSON.stringify([hidden, hidden.message])).not.toContain('c2VjcmV0');
  });

  it('that is killed on the host gives no answer, while the connection stays', async () => {
    const host = runner();
    await powershell.does('kill -KILL $$');
    await expect(host.run('', {}, options)).rejects.toEqual(withCode('target_refused'));
    const before = await mark();
    await powershell.does(answering({ ok: true }));
    expect(await host.run('', {}, options)).toEqual({ ok: true });
    expect(logins(await logSince(before))).toEqual([]);
  });

  it('that says more than 32 MiB is ended', async () => {
    await powershell.does('exec yes 0123456789');
    await expect(runner().run('', {}, options)).rejects.toEqual(
      withCode('target_refused', { message: expect.stringContaining('more than 33554432 bytes') }),
    );
  });

  it('needs a PowerShell on the host', async () => {
    const bare = await startSshd({ dir: join(dir, 'bare') });
    const host = runner({ host: bare.host, port: bare.port }, { privateKey: bare.privateKey });
    await expect(host.run('', {}, options)).rejects.toEqual(
      withCode('target_refused', { message: `there is no powershell.exe on ${bare.host}:${bare.port}` }),
    );
    await bare.close();
  });
});
