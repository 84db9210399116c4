import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ServerSentEvent } from '../../services/lab/api-client.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';

/** The events of an order as a stream, with all workers. The CA is stopped (SIGSTOP) where an order has to wait. */
let session: ApiSession;
let account: string;

const place = (name: string) => session.order({ account, names: [name], key: { type: 'ec-p256' } });

/** Follows an order to the end of the stream, as an EventSource does that comes back with `lastEventId`. */
async function follow(id: string, lastEventId?: string) {
  const answer = await fetch(`${session.url}/v1/orders/${id}/events`, {
    headers: {
      authorization: `Bearer ${session.lab.apiKey}`,
      ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
    },
  });
  const text = await answer.text();
  const ids = Array.from(text.matchAll(/^id: (.*)$/gm), ([, found = '']) => found);
  return { status: answer.status, headers: answer.headers, text, ids };
}
const idsOf = (events: ServerSentEvent[]) => events.map(({ id }) => id);
const typesOf = (events: ServerSentEvent[]) => events.map(({ event }) => event);
async function readAll(id: string): Promise<ServerSentEvent[]> {
  const events: ServerSentEvent[] = [];
  for await (const event of session.api.events(id)) events.push(event);
  return events;
}

beforeAll(async () => {
  session = await openApiSession({ workers: true });
  account = await session.account();
});
afterAll(() => session?.close());

describe('the events of an order', () => {
  it('come from the beginning, then as they happen, and end with the order', async () => {
    await session.lab.pebble.signal('SIGSTOP');
    const id = await place('live.example.com');
    await session.event(id, ({ type }) => type === 'stage_started');
    const events: ServerSentEvent[] = [];
    for await (const event of session.api.events(id)) {
      events.push(event);
      if (event.event === 'stage_started' && events.length === 2) await session.lab.pebble.signal('SIGCONT');
    }
    expect(typesOf(events).slice(0, 2)).toEqual(['order_placed', 'stage_started']);
    expect(typesOf(events).slice(-2)).toEqual(['stage_completed', 'order_completed']);
    expect(typesOf(events).filter((type) => type === 'stage_completed')).toHaveLength(2);
    expect(new Set(idsOf(events)).size).toBe(events.length);
    for (const { event, id: eventId, data } of events) {
      expect(data).toMatchObject({ id: eventId, type: event, order: id, at: expect.stringMatching(/^\d{4}-.*Z$/) });
    }
    expect(await readAll(id)).toEqual(events);
    expect(await session.read(id)).toMatchObject({ complete: true });
  });

  it('are a stream that proxies and caches leave alone', async () => {
    const id = await place('headers.example.com');
    const { headers, text } = await follow(id);
    expect(headers.get('content-type')).toBe('text/event-stream');
    expect(headers.get('cache-control')).toBe('no-store');
    expect(headers.get('x-accel-buffering')).toBe('no');
    expect(text).toMatch(/^id: 1-0\nevent: order_placed\ndata: \{.*\}\n\n/);
  });

  it('are taken up after any of them without loss or repeats', async () => {
    const id = await place('resumed.example.com');
    const all = idsOf(await readAll(id));
    expect(all.length).toBeGreaterThan(5);
    for (const [index, last] of all.slice(0, -1).entries()) {
      expect((await follow(id, last)).ids, `after ${last}`).toEqual(all.slice(index + 1));
    }
    expect((await follow(id, 'not an id of ours')).ids).toEqual(all);
  });

  it('are 204 when nothing more will come, so that a browser stays away', async () => {
    const id = await place('over.example.com');
    const last = (await readAll(id)).at(-1)?.id;
    expect(await follow(id, last)).toMatchObject({ status: 204, text: '' });
    // An EventSource that knows nothing yet gets everything, however late it is.
    expect(await follow(id)).toMatchObject({ status: 200 });
  });

  it('are whole for a reader that is cut off while the order goes on', async () => {
    await session.lab.pebble.signal('SIGSTOP');
    const id = await place('cut-off.example.com');
    const first: string[] = [];
    for await (const event of session.api.events(id)) {
      first.push(event.id);
      if (event.event === 'stage_started') break;
    }
    const rest = follow(id, first.at(-1));
    await session.lab.pebble.signal('SIGCONT');
    const { ids } = await rest;
    expect([...first, ...ids]).toEqual(idsOf(await readAll(id)));
  });

  it('are the same for many readers, whenever they come', async () => {
    const id = await place('many.example.com');
    const readers = [readAll(id), readAll(id), readAll(id)];
    await session.event(id, ({ type }) => type === 'stage_completed');
    readers.push(readAll(id), readAll(id));
    await session.event(id, ({ type }) => type === 'order_completed');
    readers.push(readAll(id));
    const read = await Promise.all(readers);
    for (const events of read) expect(idsOf(events)).toEqual(idsOf(read[0] ?? []));
    expect(typesOf(read[0] ?? []).at(-1)).toBe('order_completed');
  });

  it('go on after an end that was not the last word', async () => {
    const internal = await session.account({ email: 'internal@example.com', allowInternalNames: true });
    const id = await session.order({ account: internal, names: ['blocked-domain.example'] });
    const failed = await readAll(id);
    expect(typesOf(failed)).toEqual(['order_placed', 'stage_started', 'order_failed']);
    expect(failed.at(-1)?.data).toMatchObject({ code: 'identifier_rejected', stage: 'validation', status: 'failed' });

    await session.lab.pebble.signal('SIGSTOP');
    await session.api.send('POST', `/v1/orders/${id}/retry`);
    const more = follow(id, failed.at(-1)?.id);
    await session.event(id, ({ type, epoch }) => type === 'stage_started' && epoch === 2);
    await session.lab.pebble.signal('SIGCONT');
    expect((await more).text.match(/^event: .*$/gm)).toEqual([
      ...['event: order_retried', 'event: stage_started', 'event: order_failed'],
    ]);
    expect(typesOf(await readAll(id))).toHaveLength(6);
  });

  it('end with the order that is called off', async () => {
    await session.lab.pebble.signal('SIGSTOP');
    const id = await place('called-off.example.com');
    const types: string[] = [];
    for await (const { event } of session.api.events(id)) {
      types.push(event);
      if (event === 'stage_started') await session.api.send('POST', `/v1/orders/${id}/cancel`);
    }
    await session.lab.pebble.signal('SIGCONT');
    expect(types).toEqual(['order_placed', 'stage_started', 'order_cancelled']);
  });
});
