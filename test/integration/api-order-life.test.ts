import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Order, PendingOrder } from '#libs/model/order';
import { issued, validated } from '#libs/model/transitions';
import type { LabHost } from '../../services/lab/lab.ts';
import { type ApiSession, openApiSession } from '../support/api-session.ts';
import { eventually } from '../support/lab-session.ts';
import { addSite } from '../support/lab-sites.ts';
import { acmeOrder } from '../support/sample-orders.ts';

type Json = Record<string, unknown>;

/** Orders on their way, with all workers: cancelling and retrying them. */
let session: ApiSession;
let account: string;
let host: LabHost;
let target: string;

const cancel = (id: string) => session.api.request('POST', `/v1/orders/${id}/cancel`);
const retry = (id: string, body?: Json) => session.api.request('POST', `/v1/orders/${id}/retry`, body);
const order = (body: Json) => session.order({ account, key: { type: 'ec-p256' }, ...body });
const status = (id: string, wanted: string) => session.until(id, wanted, (now) => now.status === wanted);
const conflict = { status: 409, body: { code: 'order_state_conflict' } };

/** Where a name leads to. Nothing listens on 127.0.0.2: an answer to a challenge cannot be seen there, and the order waits. */
async function pointElsewhere(name: string): Promise<void> {
  const body = JSON.stringify({ host: `${name}.`, addresses: ['127.0.0.2'] });
  expect((await fetch(`${session.lab.pebble.challtestsrvUrl}/add-a`, { method: 'POST', body })).status).toBe(200);
}
/** Places an order while the host does not answer, so that nobody can tell yet that it has no such site. */
async function orderUnseen(body: Json): Promise<string> {
  const fault = (unreachable: boolean) =>
    fetch(`${host.url}/faults`, {
      method: 'PUT',
      body: JSON.stringify({ unreachable }),
      headers: { 'content-type': 'application/json' },
    });
  await fault(true);
  const id = await order(body);
  await fault(false);
  return id;
}
const visibleAnswers = () => session.redis.keys('{certline}:challenge:*');

beforeAll(async () => {
  session = await openApiSession({ workers: true, env: { RETRY_DELAY_SCALE: '1' } });
  // Pebble's block list has a name that is not public.
  account = await session.account({ allowInternalNames: true });
  host = await session.lab.startHost('web01');
  const body = { name: 'web01', kind: 'iis', transport: { kind: 'lab', url: host.url } };
  target = String((await session.api.send('POST', '/v1/targets', body)).id);
});
afterAll(() => session?.close());

describe('an order that waits', () => {
  it('tells why, and when it is tried next', async () => {
    await pointElsewhere('waits.example.com');
    const id = await order({ names: ['waits.example.com'] });
    const waiting = await session.until(id, 'a failed attempt', ({ error }) => error !== null);
    expect(waiting).toMatchObject({
      ...{ status: 'pending', complete: false, stage: 'validation', epoch: 1 },
      attempts: { validation: 1, issuance: 0, deployment: 0 },
      error: { code: 'http01_unreachable', stage: 'validation', detail: expect.stringContaining('waits.example.com') },
      next: expect.stringContaining('attempt 2 of 8; given up on'),
    });
    expect(Date.parse(String(waiting.nextAttemptAt))).toBeGreaterThan(Date.parse(String(waiting.updatedAt)));
    await cancel(id);
  });

  it('is called off, and the answers to its challenges are gone with that', async () => {
    const names = ['called-off-1.example.com', 'called-off-2.example.com'];
    for (const name of names) await pointElsewhere(name);
    const id = await order({ names });
    await session.until(id, 'a failed attempt', ({ error }) => error !== null);
    const stored = await session.store.orders.get(id);
    const tokens = stored?.presented.flatMap((one) => ('token' in one ? [one.token] : [])) ?? [];
    expect(tokens).toHaveLength(2);
    const seen = async () => {
      const answers = [session.url, session.challengeUrl].flatMap((origin) =>
        tokens.map((token) => fetch(`${origin}/.well-known/acme-challenge/${token}`)),
      );
      return (await Promise.all(answers)).map((answer) => answer.status);
    };
    expect(await seen()).toEqual([200, 200, 200, 200]);

    const answer = await cancel(id);
    expect(answer).toMatchObject({
      status: 200,
      body: { id, status: 'cancelled', complete: false, stage: 'validation', nextAttemptAt: null },
    });
    expect(await seen()).toEqual([404, 404, 404, 404]);
    expect(await cancel(id)).toMatchObject({ status: 200, body: answer.body });
    expect(await retry(id)).toMatchObject(conflict);
  });

  it('is called off once, whoever asks for it at the same time', async () => {
    await pointElsewhere('called-off-by-many.example.com');
    const id = await order({ names: ['called-off-by-many.example.com'] });
    await session.until(id, 'a failed attempt', ({ error }) => error !== null);
    const answers = await Promise.all(Array.from({ length: 8 }, () => cancel(id)));
    for (const answer of answers) expect(answer).toMatchObject({ status: 200, body: { id, status: 'cancelled' } });
    const history = await session.store.history(id);
    expect(history.filter(({ type }) => type === 'order_cancelled')).toHaveLength(1);
  });

  it('cannot be retried: it is tried by itself', async () => {
    await pointElsewhere('no-retry.example.com');
    const id = await order({ names: ['no-retry.example.com'] });
    await session.until(id, 'a failed attempt', ({ error }) => error !== null);
    const before = await session.read(id);
    expect(await retry(id)).toMatchObject(conflict);
    expect(await session.read(id)).toEqual(before);
    await cancel(id);
  });
});

describe('an order that a worker is at', () => {
  it('stays called off when the worker comes back to it', async () => {
    const stale = async () =>
      /stage_attempts_total\{[^}]*outcome="stale"[^}]*\} (\d+)/.exec(await session.metrics())?.[1];
    const before = Number((await stale()) ?? 0);
    const issued = session.lab.pebble.issued().length;
    await session.lab.pebble.signal('SIGSTOP');
    const id = await order({ names: ['busy.example.com'] });
    await session.event(id, ({ type }) => type === 'stage_started');
    expect(await cancel(id)).toMatchObject({ status: 200, body: { status: 'cancelled' } });
    await session.lab.pebble.signal('SIGCONT');
    await eventually('the worker sees it', 10_000, async () => Number((await stale()) ?? 0) > before);
    expect(await session.read(id)).toMatchObject({ status: 'cancelled', error: null });
    expect(session.lab.pebble.issued()).toHaveLength(issued);
  });
});

describe('an order that a worker deploys', () => {
  /** A host that does not answer while it is `hanging`, and is out of reach otherwise. */
  async function openMute() {
    let hanging = false;
    let asked = 0;
    const sockets = new Set<Socket>();
    const breakAll = () => {
      for (const socket of sockets) socket.destroy();
    };
    const server = createServer((socket) => {
      if (!hanging) return socket.destroy();
      asked += 1;
      sockets.add(socket);
      socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      hang: () => {
        hanging = true;
      },
      asked: () => asked,
      letGo: () => {
        hanging = false;
        breakAll();
      },
      close: () => {
        breakAll();
        server.close();
      },
    };
  }

  it('cannot be called off before this attempt is over', async () => {
    const mute = await openMute();
    try {
      const body = { name: 'mute', kind: 'iis', transport: { kind: 'lab', url: mute.url } };
      const { id: mutely } = await session.api.send('POST', '/v1/targets', body);
      const id = await order({ names: ['mute.example.com'], deploy: { mode: 'site', target: mutely, site: 1 } });
      mute.hang();
      await eventually('a worker waits for the host', 30_000, async () => mute.asked() > 0);
      const before = await session.read(id);
      expect(await cancel(id)).toMatchObject({
        status: 409,
        body: { ...conflict.body, detail: expect.stringContaining('a worker has begun to deploy it') },
      });
      expect(await session.read(id)).toEqual(before);
      mute.letGo();
      await session.until(id, 'a failed attempt', ({ nextAttemptAt }) => nextAttemptAt !== null);
      expect(await cancel(id)).toMatchObject({ status: 200, body: { status: 'cancelled' } });
    } finally {
      mute.close();
    }
  });

  it('but whose worker is gone says that one is to be started, and after an hour it can be called off all the same', async () => {
    await pointElsewhere('orphan.example.com');
    const id = await order({ names: ['orphan.example.com'], deploy: { mode: 'store', target } });
    await session.until(id, 'a failed attempt', ({ error }) => error !== null);
    const stored = (await session.store.orders.get(id)) as PendingOrder;
    const error = { code: 'pool_unserved' as const, stage: 'deployment' as const, at: 1, detail: 'nobody is there' };
    const issuedOne = issued(validated(stored, acmeOrder, 1), 'crt_1', Date.now());
    // As a worker leaves it that was killed; the time keeps the others from it.
    const left = { ...issuedOne, startedAt: Date.now(), error, nextAttemptAt: Date.now() + 3_600_000 };
    const saved = await session.store.orders.save<Order>(stored, left, []);
    expect(await cancel(id)).toMatchObject({
      status: 409,
      body: { detail: expect.stringContaining('nobody is there: start one') },
    });
    const old = { ...(saved as Order), startedAt: Date.now() - 3_601_000 };
    expect(await session.store.orders.save<Order>(saved as Order, old, [])).not.toBeNull();
    expect(await cancel(id)).toMatchObject({ status: 200 });
  });
});

describe('a complete order', () => {
  it('can be neither called off nor retried', async () => {
    const id = await order({ names: ['complete.example.com'] });
    const complete = await session.until(id, 'complete', (now) => now.complete === true);
    expect(complete).toMatchObject({
      ...{
        status: 'issued',
        stage: null,
        error: null,
        nextAttemptAt: null,
        certificate: expect.stringMatching(/^crt_/),
      },
      identifiers: [{ name: 'complete.example.com', status: 'valid' }],
    });
    expect(await cancel(id)).toMatchObject(conflict);
    expect(await retry(id)).toMatchObject(conflict);
    expect(await session.read(id)).toEqual(complete);
  });
});

describe('a failed order', () => {
  it('is taken up again from the beginning when it got no further', async () => {
    const id = await order({ names: ['blocked-domain.example'] });
    const failed = await status(id, 'failed');
    expect(failed).toMatchObject({
      ...{ complete: false, stage: 'validation', certificate: null },
      error: { code: 'identifier_rejected', stage: 'validation', detail: expect.any(String), at: expect.any(String) },
    });
    expect(await cancel(id)).toMatchObject(conflict);
    const again = await retry(id);
    expect(again).toMatchObject({
      status: 202,
      body: {
        ...{ id, status: 'pending', stage: 'validation', epoch: 2, error: null },
        attempts: { validation: 0, issuance: 0, deployment: 0 },
      },
    });
    expect(await status(id, 'failed')).toMatchObject({ epoch: 2, error: { code: 'identifier_rejected' } });
    expect(await retry(id, {})).toMatchObject({ status: 202, body: { epoch: 3 } });
    await status(id, 'failed');
  });

  it('is taken up where it failed, with the certificate it has', async () => {
    const name = 'retried.example.com';
    const id = await orderUnseen({ names: [name], deploy: { mode: 'site', target, site: 7 } });
    const failed = await status(id, 'failed');
    expect(failed).toMatchObject({ stage: 'deployment', certificate: expect.any(String) });
    const issued = session.lab.pebble.issued().length;

    expect(await retry(id, { from: 'issuance' })).toMatchObject({
      status: 409,
      body: {
        ...{ ...conflict.body, detail: 'it can be retried from validation or deployment, not from issuance' },
        errors: [{ path: 'from' }],
      },
    });
    const refused = { status: 422, body: { code: 'request_invalid' } };
    expect(await retry(id, { from: 'nowhere' })).toMatchObject({ ...refused, body: { errors: [{ path: 'from' }] } });
    expect(await retry(id, { form: 'validation' })).toMatchObject({ ...refused, body: { errors: [{ path: 'form' }] } });
    expect(await session.read(id)).toEqual(failed);

    // By default from the stage that failed; nothing has changed there, so it fails again.
    const again = await retry(id);
    expect(again).toMatchObject({ status: 202, body: { status: 'issued', stage: 'deployment', epoch: 2 } });
    expect(await status(id, 'failed')).toMatchObject({ epoch: 2, stage: 'deployment' });

    await addSite(host.url, 7, [`*:80:${name}`]);
    expect(await retry(id, { from: 'deployment' })).toMatchObject({
      status: 202,
      body: { status: 'issued', epoch: 3 },
    });
    expect(await status(id, 'deployed')).toMatchObject({
      ...{ complete: true, stage: null, error: null, certificate: failed.certificate },
    });
    expect(session.lab.pebble.issued()).toHaveLength(issued);
  });

  it('is taken up from the beginning when that is asked for: with a new certificate', async () => {
    const name = 'anew.example.com';
    const id = await orderUnseen({ names: [name], deploy: { mode: 'site', target, site: 8 } });
    const failed = await status(id, 'failed');
    await addSite(host.url, 8, [`*:80:${name}`]);
    expect(await retry(id, { from: 'validation' })).toMatchObject({
      status: 202,
      body: { status: 'pending', epoch: 2, certificate: null, identifiers: [{ name, status: 'pending' }] },
    });
    const deployed = await status(id, 'deployed');
    expect(deployed.certificate).toEqual(expect.stringMatching(/^crt_\w+_2$/));
    expect(deployed.certificate).not.toBe(failed.certificate);
  });
});

it('no answer to a challenge outlives its order', async () => {
  expect(await visibleAnswers()).toEqual([]);
});
