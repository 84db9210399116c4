import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ApiSession, openApiSession } from '../support/api-session.ts';

/** The live events of everything, with all workers. */
let session: ApiSession;
let account: string;
let target: string;
let folder: string;

interface Live {
  /** What has come so far. */
  events: { event: string; data: Record<string, unknown> }[];
  text(): string;
  until(wanted: (live: Live) => boolean): Promise<void>;
  stop(): Promise<void>;
}
const open: Live[] = [];

/** Begins to read; when it resolves the stream is live. */
async function listen(query = ''): Promise<Live> {
  const gone = new AbortController();
  const answer = await fetch(`${session.url}/v1/events${query}`, {
    headers: { authorization: `Bearer ${session.lab.apiKey}` },
    signal: gone.signal,
  });
  expect({ status: answer.status, type: answer.headers.get('content-type') }).toEqual({
    ...{ status: 200, type: 'text/event-stream' },
  });
  let text = '';
  let news = Promise.withResolvers<void>();
  const events: Live['events'] = [];
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? []) {
      text += decoder.decode(chunk as Uint8Array, { stream: true });
      const blocks = text.split('\n\n').slice(0, -1);
      const all = blocks.flatMap((block) => {
        const [, event = '', data = ''] = /^event: (.*)\ndata: (.*)$/.exec(block) ?? [];
        return data === '' ? [] : [{ event, data: JSON.parse(data) }];
      });
      events.splice(0, events.length, ...all);
      news.resolve();
    }
  })().catch(() => news.resolve());
  const live: Live = {
    events,
    text: () => text,
    async until(wanted) {
      while (!wanted(live)) {
        news = Promise.withResolvers<void>();
        if (wanted(live)) return;
        await news.promise;
      }
    },
    async stop() {
      gone.abort();
      await reading;
    },
  };
  open.push(live);
  return live;
}

const completed =
  (id: string) =>
  ({ events }: Live): boolean =>
    events.some(({ event, data }) => event === 'order_completed' && data.order === id);
const ordersIn = ({ events }: Live) => new Set(events.map(({ data }) => data.order ?? data.target));
const place = (name: string, more: object = {}) =>
  session.order({ account, names: [name], key: { type: 'ec-p256' }, ...more });

beforeAll(async () => {
  session = await openApiSession({ workers: true });
  account = await session.account();
  folder = join(session.lab.dir, 'certificates');
  await mkdir(folder);
  const made = await session.api.send('POST', '/v1/targets', { name: 'files', kind: 'folder', path: folder });
  target = String(made.id);
});
afterEach(async () => {
  for (const live of open.splice(0)) await live.stop();
});
afterAll(() => session?.close());

describe('the events of all orders and targets', () => {
  it('come as they happen, each with what the order’s own events say, and nothing of before', async () => {
    const before = await place('before.example.com');
    await session.until(before, 'complete', ({ complete }) => complete === true);
    await session.event(before, ({ type }) => type === 'order_completed');
    const live = await listen();
    const [one, two] = [await place('one.example.com'), await place('two.example.com')];
    await live.until(completed(one));
    await live.until(completed(two));
    expect(ordersIn(live)).toEqual(new Set([one, two]));
    for (const id of [one, two]) {
      const own: unknown[] = [];
      for await (const { event, data } of session.api.events(id)) own.push({ event, data });
      expect(live.events.filter(({ data }) => data.order === id)).toEqual(own);
    }
    expect(live.text()).not.toContain('id: ');
  });

  it('are those of one target or order where one is named', async () => {
    await session.lab.pebble.signal('SIGSTOP');
    const id = await place('files.example.com', { deploy: { target } });
    const [ofOrder, ofTarget, ofAll] = [
      await listen(`?order=${id}`),
      await listen(`?target=${target}`),
      await listen(),
    ];
    await session.lab.pebble.signal('SIGCONT');
    await session.until(id, 'complete', ({ complete }) => complete === true);
    const other = await place('other.example.com');
    await ofAll.until(completed(other));

    await rm(join(folder, 'files.example.com', 'cert.pem'));
    await session.api.send('GET', `/v1/targets/${target}/drift`);
    await ofTarget.until(({ events }) => events.length > 0);
    expect(ofTarget.events).toEqual([
      {
        event: 'target_drifted',
        data: expect.objectContaining({
          ...{ target, type: 'target_drifted', state: 'drifted', differences: 1 },
          at: expect.stringMatching(/^\d{4}-.*Z$/),
          detail: expect.stringContaining('cert.pem is missing'),
        }),
      },
    ]);
    await ofAll.until(({ events }) => events.some(({ event }) => event === 'target_drifted'));
    // The feed tells all of its listeners in one order: what has come to one of them has come to all.
    expect([...ordersIn(ofOrder)]).toEqual([id]);
    const both = await listen(`?order=${other}&target=${target}`);
    await session.api.send('POST', `/v1/targets/${target}/drift/accept`);
    await both.until(({ events }) => events.length > 0);
    expect(both.events).toMatchObject([{ event: 'target_in_sync' }]);
  });

  it('tell once of a credential and of an account whose orders are held, and once that they go on', async () => {
    const live = await listen();
    const settings = { url: 'http://127.0.0.1:1/' };
    const body = { name: 'DNS', kind: 'dns', provider: 'webhook', settings, secret: { secret: 'x'.repeat(32) } };
    const credential = String((await session.api.send('POST', '/v1/credentials', body)).id);
    const parked = { code: 'dns_credential_refused', detail: 'its words', at: 1 } as const;
    for (let i = 0; i < 2; i += 1)
      await session.store.credentials.update(credential, (one) => (one.kind === 'dns' ? { ...one, parked } : one));
    await session.store.accounts.update(account, (one) => ({ ...one, parked }));
    for (let i = 0; i < 2; i += 1) {
      await session.api.send('PUT', `/v1/credentials/${credential}/secret`, { secret: body.secret });
      await session.account();
    }
    await live.until(({ events }) => events.some(({ event }) => event === 'account_resumed'));
    const reason = { code: parked.code, detail: parked.detail, at: '1970-01-01T00:00:00.001Z' };
    const mended = {
      detail: 'mended; it was held for dns_credential_refused',
      at: expect.stringMatching(/^\d{4}-.*Z$/),
    };
    expect(live.events.map(({ event, data: { id: _id, type: _type, ...data } }) => [event, data])).toEqual([
      ['credential_parked', { on: credential, ...reason }],
      ['account_parked', { on: account, ...reason }],
      ['credential_resumed', { on: credential, ...mended }],
      ['account_resumed', { on: account, ...mended }],
    ]);
    expect(new Set(live.events.map(({ data }) => data.id)).size).toBe(4);
  });

  it.each([
    ['?order=ord_0', 404, 'not_found'],
    ['?target=tgt_0', 404, 'not_found'],
    ['?orders=x', 422, 'request_invalid'],
  ])('are refused with %s', async (query, status, code) => {
    expect(await session.api.request('GET', `/v1/events${query}`)).toMatchObject({ status, body: { code } });
  });

  it('need the right to read orders', async () => {
    const other = await session.clientWith('certificates:read');
    expect(await other.request('GET', '/v1/events')).toMatchObject({ status: 403, body: { code: 'scope_missing' } });
  });
});
