import type { RequestListener, Server } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { apiLimits } from '../../services/api/http-limits.ts';
import { close, createHttpServer, type HttpLimits, listen, portOf } from '../../services/api/http-server.ts';
import { problemSchema } from '../../services/api/problem-json.ts';
import { openRaw, type RawAnswer, sendRaw } from '../support/raw-http.ts';

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await close(server);
  }
});

const hello: RequestListener = (_request, response) =>
  void response.writeHead(200, { 'content-length': 5 }).end('hello');

async function serve(limits: Partial<HttpLimits> = {}, listener = hello): Promise<string> {
  const server = createHttpServer(listener, { ...apiLimits, connections: 100, ...limits });
  servers.push(await listen(server, '127.0.0.1', 0, 'PORT'));
  return `http://127.0.0.1:${portOf(server)}`;
}

const end = 'Host: x\r\nConnection: close\r\n\r\n';
const get = `GET / HTTP/1.1\r\n${end}`;
const head = (count: number) => Array.from({ length: count }, (_, i) => `h${i}: x\r\n`).join('');

function problemIn({ status, headers, body }: RawAnswer): z.output<typeof problemSchema> {
  expect(headers['content-type']).toBe('application/problem+json; charset=utf-8');
  const problem = problemSchema.parse(JSON.parse(body));
  expect(problem.status).toBe(status);
  return problem;
}

describe('a request that cannot be read', () => {
  it.each([
    ['a method nobody knows', `BREW / HTTP/1.1\r\n${end}`],
    ['no HTTP at all', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
    ['a version nobody knows', `GET / HTTP/9.9\r\n${end}`],
    ['a blank in its URL', `GET /a b HTTP/1.1\r\n${end}`],
    ['a header without a name', `GET / HTTP/1.1\r\n: x\r\n${end}`],
    ['a NUL in a header', `GET / HTTP/1.1\r\nA: \0\r\n${end}`],
    ['two lengths', `POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n${end}`],
    ['a length and chunks', `POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n${end}0\r\n\r\n`],
    ['a length below zero', `POST / HTTP/1.1\r\nContent-Length: -1\r\n${end}`],
    ['a chunk without a length', `POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n${end}zz\r\n`],
    ['another server as its aim', `CONNECT example.com:443 HTTP/1.1\r\n${end}`],
  ])('for %s is answered 400, and the connection is closed', async (_what, text) => {
    const answers = await sendRaw(await serve({}, (request) => void request.resume()), text);
    expect(answers).toHaveLength(1);
    expect(answers.map(problemIn)).toMatchObject([{ code: 'request_malformed' }]);
    expect(answers[0]?.headers.connection).toBe('close');
  });

  it('for another server is closed also when the client does not close, and a client that breaks off does no harm', async () => {
    const url = await serve({ lingerMs: 50 });
    const connect = `CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n`;
    for (let tries = 0; tries < 5; tries += 1) {
      const broken = await openRaw(url);
      broken.send(connect);
      broken.socket.resetAndDestroy();
    }
    const halfOpen = await openRaw(url);
    halfOpen.socket.allowHalfOpen = true;
    halfOpen.send(connect);
    expect(await halfOpen.answers(1)).toMatchObject([{ status: 400 }]);
    const [server] = servers;
    await expect.poll(() => new Promise((resolve) => server?.getConnections((_, count) => resolve(count)))).toBe(0);
    halfOpen.socket.destroy();
    expect((await sendRaw(url, get)).map(({ status }) => status)).toEqual([200]);
  });

  it.each([
    ['a long URL', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n${end}`],
    ['a long header', `GET / HTTP/1.1\r\nA: ${'x'.repeat(20_000)}\r\n${end}`],
    ['many headers', `GET / HTTP/1.1\r\n${head(2_000)}${end}`],
    ['more headers than are taken, all of them small', `GET / HTTP/1.1\r\n${head(150)}${end}`],
  ])('for %s is answered 431', async (_what, text) => {
    const answers = await sendRaw(await serve(), text);
    expect(answers.map(problemIn)).toMatchObject([{ code: 'headers_too_large' }]);
  });
});

describe('a client that is slow', () => {
  it.each([
    ['says nothing', ''],
    ['sends headers without an end', 'GET / HTTP/1.1\r\nHost: x\r\n'],
    ['sends a body without an end', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc'],
  ])('and %s is cut off, and told why where it asked something', async (_what, text) => {
    const url = await serve({ headersMs: 150, requestMs: 150 }, (request) => void request.resume());
    const answers = await sendRaw(url, text);
    expect(answers.map(problemIn)).toMatchObject([{ code: 'request_timeout' }]);
  });

  it('to take its answer is cut off, and its answer is dropped', async () => {
    const dropped = Promise.withResolvers<void>();
    const url = await serve({ silenceMs: 200 }, (_request, response) => {
      response.once('close', dropped.resolve);
      response.write(Buffer.alloc(64 << 20));
    });
    const connection = await openRaw(url);
    connection.socket.pause();
    connection.send(get);
    await dropped.promise;
    connection.socket.destroy();
  });
});

describe('a body that nobody wants', () => {
  it('does not keep the answer waiting, and is not read for ever', async () => {
    const url = await serve({ lingerMs: 100 });
    const connection = await openRaw(url);
    connection.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc');
    expect(await connection.answers(1)).toMatchObject([{ status: 200, body: 'hello' }]);
    const sending = setInterval(() => connection.send('x'.repeat(1_000)), 10);
    expect(await connection.closed()).toHaveLength(1);
    clearInterval(sending);
  });

  it('is not asked for', async () => {
    const url = await serve({ lingerMs: 100 });
    const text = 'POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n';
    expect(await sendRaw(url, text)).toMatchObject([{ status: 200 }]);
  });
});

describe('connections', () => {
  it('beyond those that are taken are told so, and to come again; beyond twice as many they are cut off', async () => {
    const url = await serve({ connections: 2 });
    const open = [await openRaw(url), await openRaw(url), await openRaw(url), await openRaw(url)];
    for (const one of open) one.send(get.replace('Connection: close\r\n', ''));
    const statuses = await Promise.all(open.map(async (one) => (await one.answers(1))[0]));
    expect(statuses.map((answer) => answer?.status)).toEqual([200, 200, 503, 503]);
    expect(statuses.slice(2).map((answer) => answer && problemIn(answer).code)).toEqual([
      'too_many_connections',
      'too_many_connections',
    ]);
    expect(Number(statuses[2]?.headers['retry-after'])).toBeGreaterThan(0);
    await Promise.all(open.slice(2).map((one) => one.closed()));
    const others = [await openRaw(url), await openRaw(url), await openRaw(url)];
    expect(await others[2]?.closed()).toEqual([]);
    for (const one of [...open, ...others]) one.socket.destroy();
  });

  it('that have been closed make room', async () => {
    const url = await serve({ connections: 1 });
    for (let i = 0; i < 20; i += 1) expect(await sendRaw(url, get)).toMatchObject([{ status: 200 }]);
  });

  it('get their answers in the order they asked, and no more than a few wait for theirs', async () => {
    const held: (() => void)[] = [];
    const url = await serve({ pipelined: 3 }, (request, response) => {
      held.push(() => response.end(request.url));
    });
    const connection = await openRaw(url);
    connection.send(Array.from({ length: 6 }, (_, i) => `GET /${i} HTTP/1.1\r\nHost: x\r\n\r\n`).join(''));
    // Those that are refused are so at once.
    while (held.length < 3) await new Promise((resolve) => setImmediate(resolve));
    for (const answer of held) answer();
    const answers = await connection.closed();
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 429]);
    expect(answers[3] && problemIn(answers[3]).code).toBe('too_many_requests');
  });
});
