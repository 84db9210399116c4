import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { probeThumbprint } from '#libs/iis/handshake';
import type { BindingChange } from '#libs/iis/iis-host';
import { createLabHost } from '#libs/iis/lab-host';
import { type OpensslPfx, opensslPfx } from '../support/openssl-pfx.ts';

const main = fileURLToPath(new URL('../../services/lab/iis-host/main.ts', import.meta.url));
const { signal } = new AbortController();
const running: ChildProcess[] = [];
let scratch: string;
let dir: string;
let old: OpensslPfx;
let next: OpensslPfx;

/** Starts the host as a process of its own and answers the URL of its first line. */
async function start(): Promise<{ url: string; child: ChildProcess }> {
  const child = spawn(process.execPath, [main], {
    env: { ...process.env, LAB_DIR: dir },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  expect(JSON.parse(line)).toMatchObject({ listening: true });
  return { url: JSON.parse(line).url, child };
}

async function send(url: string, method: string, path: string, body: unknown): Promise<void> {
  await fetch(url + path, { method, body: JSON.stringify(body) });
}

const update = (thumbprint: string | null, expected: string | null): BindingChange => ({
  op: 'update',
  siteId: 1,
  protocol: 'https',
  bindingInformation: '*:443:a.example.com',
  sslFlags: 1,
  thumbprint,
  store: 'My',
  expect: { thumbprint: expected, sslFlags: 1 },
});
const withCode = (code: string) => expect.objectContaining({ code });

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'lab-process-'));
  dir = join(scratch, 'host');
  old = await opensslPfx(scratch, ['a.example.com']);
  next = await opensslPfx(scratch, ['a.example.com'], { form: '3des' });
});
afterAll(async () => {
  for (const child of running) child.kill('SIGKILL');
  await rm(scratch, { recursive: true });
});

describe('the lab host as a process', () => {
  it('loses nothing when it is killed, and does what its faults say', async () => {
    const { url, child } = await start();
    const host = createLabHost({ kind: 'lab', url });
    const served = async () =>
      (await probeThumbprint(host.endpoint('*', 443), 'a.example.com', 5_000, signal)).thumbprint;
    const spec = { store: 'My', friendlyName: 'a', exportable: false, readers: [] };
    for (const pfx of [old, next]) await host.importPfx({ ...pfx, ...spec }, signal);
    const bindings = [{ protocol: 'https', bindingInformation: '*:443:a.example.com', sslFlags: 1 }];
    await send(url, 'POST', '/sites', { name: 'one', bindings });
    await host.apply([update(old.thumbprint, null)], signal);
    expect(await served()).toBe(old.thumbprint);
    expect((await stat(join(dir, `stores/My/${old.thumbprint}.key`))).mode & 0o777).toBe(0o600);

    await send(url, 'PUT', '/faults', { failCommits: 1 });
    await expect(host.apply([update(next.thumbprint, old.thumbprint)], signal)).rejects.toEqual(
      withCode('commit_conflict'),
    );

    await send(url, 'PUT', '/faults', { serveOld: true });
    await host.apply([update(next.thumbprint, old.thumbprint)], signal);
    expect((await host.read(signal)).sites[0]?.bindings[0]?.thumbprint).toBe(next.thumbprint);
    expect(await served()).toBe(old.thumbprint);
    await send(url, 'PUT', '/faults', { serveOld: false });
    expect(await served()).toBe(next.thumbprint);

    await send(url, 'PUT', '/faults', { unreachable: true });
    await expect(host.read(signal)).rejects.toEqual(withCode('target_unreachable'));

    const before = host.endpoint('*', 443);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await expect(host.read(signal)).rejects.toEqual(withCode('target_unreachable'));
    await expect(served()).rejects.toEqual(withCode('target_unreachable'));
    const again = createLabHost({ kind: 'lab', url: (await start()).url });
    expect((await again.read(signal)).sites[0]?.bindings[0]?.thumbprint).toBe(next.thumbprint);
    expect(again.endpoint('*', 443)).toEqual(before);
    expect(await served()).toBe(next.thumbprint);
  });

  it('ends with SIGTERM', async () => {
    const { child } = await start();
    child.kill('SIGTERM');
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});

describe('a client of a host that is not well', () => {
  async function serverThat(answers: string | null): Promise<{ server: Server; port: number }> {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      if (answers !== null) socket.once('data', () => socket.end(answers));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const address = server.address();
    return { server, port: address !== null && typeof address === 'object' ? address.port : 0 };
  }

  it('tells a dead host from one that answers something else', async () => {
    const answers: [string, string][] = [
      ['HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n', 'target_unreachable'],
      ['HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno', 'target_refused'],
      ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}', 'target_refused'],
      ['nonsense\r\n\r\n', 'target_unreachable'],
    ];
    for (const [answer, code] of answers) {
      const { server, port } = await serverThat(answer);
      const host = createLabHost({ kind: 'lab', url: `http://127.0.0.1:${port}` });
      await expect(host.read(signal)).rejects.toEqual(withCode(code));
      server.close();
    }
  });

  it('gives up a handshake that is not answered, and one that is aborted', async () => {
    const { server, port } = await serverThat(null);
    const endpoint = { host: '127.0.0.1', port };
    await expect(probeThumbprint(endpoint, 'a.example.com', 50, signal)).rejects.toEqual(
      withCode('target_unreachable'),
    );
    const gone = new AbortController();
    const probe = probeThumbprint(endpoint, null, 60_000, gone.signal);
    await once(server, 'connection');
    gone.abort(new Error('enough'));
    await expect(probe).rejects.toThrow('enough');
    await expect(probeThumbprint(endpoint, null, 1, gone.signal)).rejects.toThrow('enough');
    server.close();
  });
});
