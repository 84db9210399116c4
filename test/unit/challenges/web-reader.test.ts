import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { createLookup, createWebReader } from '#libs/challenges/web-reader';

const { signal } = new AbortController();
/** Redirects lead to the test's own server, and to one where nobody is. */
let ports: number[] = [];
const read = (url: string, by: AbortSignal) => createWebReader(null, ports)(url, by);

describe('the web reader', () => {
  let server: Server;
  let base: string;
  const seen: string[] = [];

  const redirect =
    (location: string, status = 302): RequestListener =>
    (_request, response) =>
      response.writeHead(status, { location }).end('elsewhere');
  const pages: Record<string, RequestListener> = {
    '/plain': (_request, response) => response.end('hello'),
    '/missing': (_request, response) => response.writeHead(404).end('no'),
    '/headers': (request, response) => response.end(JSON.stringify(request.headers)),
    '/once': redirect('/plain'),
    '/permanently': redirect('/once', 308),
    '/loop': redirect('/loop'),
    '/nowhere': redirect('http://[bad'),
    '/file': redirect('file:///etc/hostname'),
    '/refused': redirect('http://127.0.0.1:1/'),
    '/no-location': (_request, response) => response.writeHead(302).end('where to?'),
    '/long': (_request, response) => response.end('x'.repeat(100_000)),
    '/endless': (_request, response) => {
      const more = (): void => {
        if (!response.destroyed) response.write('x'.repeat(1_000), more);
      };
      more();
    },
    '/silent': () => {},
    '/stalls': (_request, response) => response.writeHead(200).write('some'),
    '/breaks': (_request, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('some', () => response.destroy());
    },
  };
  const countdown: RequestListener = (request, response) => {
    const left = Number(request.url?.slice('/count/'.length));
    if (left === 0) response.end('arrived');
    else redirect(`/count/${left - 1}`)(request, response);
  };

  beforeAll(async () => {
    server = createServer((request, response) => {
      const path = request.url ?? '';
      seen.push(path);
      const page = path.startsWith('/count/') ? countdown : pages[path];
      page?.(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    base = `http://127.0.0.1:${port}`;
    ports = [1, port];
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  afterEach(() => {
    vi.restoreAllMocks();
    seen.length = 0;
  });

  /** As if all timeouts were short. */
  function shortTimeouts(): void {
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    vi.spyOn(AbortSignal, 'timeout').mockImplementation(() => timeout(50));
  }

  it('tells status, text, and the address that answered', async () => {
    const address = new URL(base).host;
    expect(await read(`${base}/plain`, signal)).toEqual({ status: 200, body: 'hello', address, url: `${base}/plain` });
    expect(await read(`${base}/missing`, signal)).toMatchObject({ status: 404, body: 'no', address });
  });

  it('says who it is', async () => {
    const answer = await read(`${base}/headers`, signal);
    expect(answer).toMatchObject({ body: expect.stringContaining('"user-agent":"certline"') });
  });

  it('follows redirects, relative and absolute, and tells where it ended', async () => {
    expect(await read(`${base}/permanently`, signal)).toMatchObject({
      status: 200,
      body: 'hello',
      url: `${base}/plain`,
    });
    expect(seen).toEqual(['/permanently', '/once', '/plain']);
  });

  it('follows ten redirects and not eleven', async () => {
    expect(await read(`${base}/count/10`, signal)).toMatchObject({ body: 'arrived' });
    expect(await read(`${base}/count/11`, signal)).toEqual({ error: 'more than 10 redirects' });
  });

  it('ends in a loop of redirects', async () => {
    expect(await read(`${base}/loop`, signal)).toEqual({ error: 'more than 10 redirects' });
    expect(seen).toHaveLength(11);
  });

  it('does not follow to what is no web address', async () => {
    expect(await read(`${base}/nowhere`, signal)).toMatchObject({
      error: 'redirects to http://[bad, which is not a URL',
    });
    expect(await read(`${base}/file`, signal)).toMatchObject({ error: 'redirects to file:' });
  });

  it('takes a redirect without a place for the answer', async () => {
    expect(await read(`${base}/no-location`, signal)).toMatchObject({ status: 302, body: 'where to?' });
  });

  it('follows a redirect to the ports a CA follows to, and to no other', async () => {
    expect(await createWebReader(null)(`${base}/refused`, signal)).toMatchObject({
      error: 'redirects to port 1; a CA follows to 80 and 443 only',
    });
  });

  it('tells when nothing listens, and at which hop', async () => {
    expect(await read('http://127.0.0.1:1/', signal)).toEqual({ error: 'connect ECONNREFUSED 127.0.0.1:1' });
    expect(await read(`${base}/refused`, signal)).toEqual({
      error: 'redirected to http://127.0.0.1:1/, which cannot be read',
    });
  });

  it('reads 4 KiB and no more, even of a body without end', async () => {
    for (const path of ['/long', '/endless']) {
      expect(await read(base + path, signal)).toMatchObject({ status: 200, body: 'x'.repeat(4_096) });
    }
  });

  it('tells when the connection breaks in the middle', async () => {
    expect(await read(`${base}/breaks`, signal)).toEqual({ error: 'aborted' });
  });

  it('waits ten seconds for all hops together', async () => {
    const timeout = vi.spyOn(AbortSignal, 'timeout');
    await read(`${base}/once`, signal);
    expect(timeout.mock.calls).toEqual([[10_000]]);
  });

  it.each(['/silent', '/stalls'])('tells of %s when that time is over', async (path) => {
    shortTimeouts();
    expect(await read(base + path, signal)).toEqual({ error: 'no answer within 10 s' });
  });

  it('throws the reason when it is called off', async () => {
    const stop = new AbortController();
    const reason = new Error('the process stops');
    const reading = read(`${base}/silent`, stop.signal);
    setTimeout(() => stop.abort(reason), 20);
    await expect(reading).rejects.toBe(reason);
    await expect(read(`${base}/plain`, stop.signal)).rejects.toBe(reason);
  });

  it('asks the resolver it was given, at every hop', async () => {
    const asked: string[] = [];
    const lookup = async (host: string): Promise<string[]> => {
      asked.push(host);
      return ['127.0.0.1'];
    };
    const { port } = new URL(base);
    expect(await createWebReader(lookup, ports)(`http://a.example.com:${port}/once`, signal)).toMatchObject({
      body: 'hello',
      url: `http://a.example.com:${port}/plain`,
    });
    expect(asked).toEqual(['a.example.com', 'a.example.com']);
  });

  it('tries the next address when one does not answer', async () => {
    const lookup = async (): Promise<string[]> => ['127.0.0.9', '127.0.0.1'];
    const { port } = new URL(base);
    expect(await createWebReader(lookup, ports)(`http://a.example.com:${port}/plain`, signal)).toMatchObject({
      body: 'hello',
    });
  });

  it('tells when the resolver knows no address', async () => {
    const lookup = async (host: string): Promise<string[]> => {
      throw new Error(`no address for ${host}`);
    };
    expect(await createWebReader(lookup)('http://a.example.com/', signal)).toEqual({
      error: 'no address for a.example.com',
    });
  });

  it.each(['ENOTFOUND', 'ENODATA'])('tells in words what a resolver means by %s', async (code) => {
    const lookup = async (hostname: string): Promise<string[]> => {
      throw Object.assign(new Error(`queryA ${code} ${hostname}`), { code, hostname });
    };
    expect(await createWebReader(lookup)('http://a.example.com/', signal)).toEqual({
      error: 'a.example.com has no address (A, AAAA)',
    });
  });

  it('uses the system’s resolver when no servers are named', () => {
    expect(createLookup([])).toBeNull();
    expect(createLookup(['127.0.0.1:5353'])).toBeTypeOf('function');
  });
});
