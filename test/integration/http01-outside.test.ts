import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createOutsideLook, type OutsideAnswer } from '#libs/challenges/outside-look';

const wanted = { name: 'a.example.com', token: 'tok', keyAuthorization: 'tok.thumb' };
const { signal } = new AbortController();
let server: Server | undefined;

/** A service that looks from outside; answers its URL. */
async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener);
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/look/s3cret`;
}
const saying = (status: number, body: string): Promise<string> =>
  serve((_request, response) => response.writeHead(status).end(body));
const look = (url: string, more: { key?: string; timeoutMs?: number } = {}): Promise<OutsideAnswer> =>
  createOutsideLook({ url, key: undefined, ...more })(wanted, signal);

afterEach(async () => {
  server?.closeAllConnections();
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(null)));
  server = undefined;
});

describe('a service that looks from outside', () => {
  it('is told what to look for, with the key', async () => {
    const asked: unknown[] = [];
    const url = await serve((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        const { method, url: path, headers } = request;
        asked.push([method, path, headers['content-type'], headers.authorization, JSON.parse(String(chunks[0]))]);
        response.end('{"ok":true,"from":"Frankfurt"}');
      });
    });
    expect(await look(url, { key: 'k3y' })).toEqual({ ok: true });
    expect(await look(url)).toEqual({ ok: true });
    const [how, what] = [['POST', '/look/s3cret', 'application/json'] as const, wanted];
    expect(asked).toEqual([
      [...how, 'Bearer k3y', what],
      [...how, undefined, what],
    ]);
  });

  it('says why it does not see the answer', async () => {
    const url = await saying(200, JSON.stringify({ ok: false, reason: `no\n  route ${'x'.repeat(900)}`, status: 503 }));
    expect(await look(url)).toEqual({ ok: false, reason: `no route ${'x'.repeat(291)}`, status: 503 });
  });

  it.each([
    [500, '{"ok":true}', /^http:\/\/127\.0\.0\.1:\d+ answers 500$/],
    [302, '', /answers 302$/],
    [200, 'fine', /something else than the protocol has$/],
    [200, '{"ok":false}', /something else than the protocol has$/],
    [200, '{"ok":"yes"}', /something else than the protocol has$/],
    [200, `{"ok":true,"x":"${'x'.repeat(9_000)}"}`, /something else than the protocol has$/],
  ])('cannot tell when it answers %i %.20s', async (status, body, words) => {
    const error = await look(await saying(status, body)).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ message: expect.stringMatching(words) });
    expect(String(error)).not.toContain('s3cret');
  });

  it('cannot tell when it is not there, or takes too long', async () => {
    const url = await serve(() => {});
    await expect(look(url, { timeoutMs: 200 })).rejects.toThrow(/^no answer from http:\/\/127\.0\.0\.1:\d+ in 0.2 s$/);
    server?.closeAllConnections();
    await new Promise((resolve) => server?.close(resolve));
    await expect(look(url)).rejects.toThrow(/ECONNREFUSED/);
  });

  it('is not asked without TLS outside of the private network', async () => {
    await expect(look('http://8.8.8.8/')).rejects.toThrow(/without TLS/);
  });

  it('is not waited for when the run ends', async () => {
    const url = await serve(() => {});
    const run = new AbortController();
    const looking = createOutsideLook({ url, key: undefined })(wanted, run.signal);
    const reason = new Error('the process stops');
    run.abort(reason);
    await expect(looking).rejects.toBe(reason);
  });
});
