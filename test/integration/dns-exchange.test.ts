import { execFile, spawnSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { decode, encode } from 'dns-packet';
import { afterEach, describe, expect, test } from 'vitest';
import { createExchange } from '#libs/dns/exchange';

const never = new AbortController().signal;
const question = { name: 'www.example.test', type: 'A' as const, recursive: false };
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

/** A server that does what no real one does. It is given every query, and answers with as many datagrams as it likes. */
async function standIn(answers: (query: Buffer) => Buffer[]) {
  const socket = createSocket('udp4');
  sockets.push(socket);
  const seen: { id: number; port: number; query: Buffer }[] = [];
  socket.on('message', (query, { port, address }) => {
    seen.push({ id: query.readUInt16BE(0), port, query });
    for (const answer of answers(query)) socket.send(answer, port, address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return { server: { address: '127.0.0.1', port: socket.address().port }, seen };
}

/** The right answer, or one with something changed. */
function answerTo(query: Buffer, address: string, change: { id?: number; name?: string; flags?: number } = {}): Buffer {
  const { id, questions = [] } = decode(query);
  const name = change.name ?? question.name;
  return encode({
    ...{ type: 'response', flags: change.flags ?? 1 << 10, id: change.id ?? id },
    questions: questions.map((one) => ({ ...one, name })),
    answers: [{ type: 'A', name, data: address }],
  });
}

const exchange = createExchange({ timeoutMs: 300, tries: 2 });

describe('An answer', () => {
  test('is taken when it has the id and the question of the query, in whatever case', async () => {
    const { server } = await standIn((query) => [answerTo(query, '192.0.2.1', { name: 'WWW.example.TEST' })]);
    expect(await exchange(server, question, never)).toMatchObject({
      answer: { rcode: 'NOERROR', authoritative: true, answers: [{ name: 'www.example.test', data: '192.0.2.1' }] },
    });
  });

  test('with another id, to another question, or that is a question itself is passed over for the true one', async () => {
    const { server } = await standIn((query) => [
      answerTo(query, '203.0.113.1', { id: (query.readUInt16BE(0) + 1) % 65_536 }),
      answerTo(query, '203.0.113.2', { name: 'other.example.test' }),
      query,
      Buffer.from('garbage'),
      answerTo(query, '192.0.2.1'),
    ]);
    expect(await exchange(server, question, never)).toMatchObject({ answer: { answers: [{ data: '192.0.2.1' }] } });
  });

  test.each([
    [
      'garbage',
      () => Buffer.from('this is not DNS at all'),
      'sends answers to other questions only|sends answers that are not DNS',
    ],
    [
      'a cut message',
      (query: Buffer) => answerTo(query, '192.0.2.1').subarray(0, 40),
      'sends answers that are not DNS',
    ],
    [
      'answers to others',
      (query: Buffer) => answerTo(query, '192.0.2.1', { name: 'a.test' }),
      'sends answers to other questions only',
    ],
  ])('of a server that sends %s only is none', async (_, answer, words) => {
    const { server } = await standIn((query) => [answer(query)]);
    expect(await exchange(server, question, never)).toEqual({
      failure: 'silent',
      words: expect.stringMatching(words),
    });
  });

  test('from another address is not heard', async () => {
    const other = createSocket('udp4');
    sockets.push(other);
    const { server, seen } = await standIn((query) => {
      other.send(answerTo(query, '203.0.113.1'), seen.at(-1)?.port ?? 0, '127.0.0.1');
      return [];
    });
    expect(await exchange(server, question, never)).toEqual({ failure: 'silent', words: 'does not answer' });
  });
});

describe('A query', () => {
  test('has another id and comes from another port each time', async () => {
    const { server, seen } = await standIn((query) => [answerTo(query, '192.0.2.1')]);
    for (let sent = 0; sent < 8; sent += 1) await exchange(server, question, never);
    expect(new Set(seen.map(({ id }) => id)).size).toBeGreaterThan(6);
    expect(new Set(seen.map(({ port }) => port)).size).toBeGreaterThan(6);
  });

  test('that got lost is sent again', async () => {
    let queries = 0;
    const { server } = await standIn((query) => {
      queries += 1;
      return queries === 1 ? [] : [answerTo(query, '192.0.2.1')];
    });
    expect(await exchange(server, question, never)).toMatchObject({ answer: { rcode: 'NOERROR' } });
    expect(queries).toBe(2);
  });

  test('is sent without EDNS to a server that does not know it (RFC 6891 §7)', async () => {
    const { server, seen } = await standIn((query) => {
      if ((decode(query).additionals ?? []).length === 0) return [answerTo(query, '192.0.2.1')];
      // FORMERR, by the header alone.
      const refusal = Buffer.alloc(12);
      query.copy(refusal, 0, 0, 2);
      refusal.writeUInt16BE(0x8001, 2);
      return [refusal];
    });
    expect(await exchange(server, question, never)).toMatchObject({ answer: { answers: [{ data: '192.0.2.1' }] } });
    expect(seen.map(({ query }) => decode(query).additionals?.length)).toEqual([1, 0]);
  });

  test('goes over TCP when the answer was cut, and says so when nobody is there', async () => {
    const { server } = await standIn((query) => [answerTo(query, '192.0.2.1', { flags: 1 << 9 }).subarray(0, 40)]);
    expect(await exchange(server, question, never)).toEqual({
      ...{ failure: 'silent', words: 'refuses the connection (TCP)' },
    });
  });

  test('ends with the caller’s reason, and at a limit as if nobody answered', async () => {
    const { server } = await standIn(() => []);
    const patient = createExchange({ timeoutMs: 60_000, tries: 2 });
    const caller = new AbortController();
    const asked = patient(server, question, caller.signal);
    caller.abort(new Error('enough'));
    await expect(asked).rejects.toThrow('enough');
    const limit = AbortSignal.timeout(100);
    expect(await patient(server, question, never, limit)).toEqual({ failure: 'silent', words: 'does not answer' });
  });
});

// A network of its own, without any route: what a machine without IPv6 says of IPv6 addresses.
const noNetwork = ['--user', '--map-root-user', '--net'];
const canUnshare = spawnSync('unshare', [...noNetwork, 'true'], { stdio: 'ignore' }).status === 0;

// On CI a machine that does not allow it is a failure, not a test less.
test.skipIf(!canUnshare && process.env.CI !== 'true')(
  'An address that there is no way to is told apart from a server that is silent',
  async () => {
    const script = `
    const { createExchange } = await import(${JSON.stringify(new URL('../../libs/dns/exchange.ts', import.meta.url).href)});
    const never = new AbortController().signal;
    const ask = (address) => createExchange()({ address, port: 53 }, ${JSON.stringify(question)}, never);
    console.log(JSON.stringify([await ask('2001:db8::53'), await ask('192.0.2.53')]));`;
    const args = [...noNetwork, process.execPath, '--input-type=module', '-e', script];
    const { stdout } = await promisify(execFile)('unshare', args, { timeout: 20_000 });
    const unreachable = {
      failure: 'unreachable',
      words: expect.stringMatching(/^cannot be reached from here \((ENETUNREACH|EADDRNOTAVAIL)\)$/),
    };
    expect(JSON.parse(stdout)).toEqual([unreachable, unreachable]);
  },
);
